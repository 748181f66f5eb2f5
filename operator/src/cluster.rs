//! A MailCluster, validated: the only input of `build`. What the schema cannot check is checked here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use mailcluster_api::{
    MailCluster, MailClusterSpec, MailStore,
    mailstore::StoreKind,
    names::{ClusterNames, FIRST_REPLICA, MAX_CLUSTER_NAME, REPLICAS, StoreNames},
    roles::{Identity, Role},
};

/// Why nothing can be built from a MailCluster. The message stands in its Ready condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The name does not fit its children. The schema refuses it too.
    #[error("metadata.name is longer than {MAX_CLUSTER_NAME} characters")]
    NameTooLong,
    /// The API server gave no namespace or UID.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// Volumes of two clusters carry this cluster's name.
    #[error(
        "volumes labelled with this cluster's name belong to {} clusters ({}): remove the labels of those that are foreign",
        .0.len(), .0.join(", ")
    )]
    TwoClusters(Vec<String>),
    /// More volumes say that they are copies of a store than it shall have.
    #[error(
        "store {store} has more volumes than copies ({claims}): remove the labels of those that are not to be served, or set stores.replicas"
    )]
    TooManyReplicas {
        /// The store.
        store: String,
        /// The claims' names.
        claims: String,
    },
    /// The status names another cluster than the volumes do.
    #[error("status.clusterID is {status}, but the volumes belong to {volumes}")]
    OtherCluster {
        /// As in the status.
        status: String,
        /// As on the volumes.
        volumes: String,
    },
}

/// A MailCluster, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The cluster id.
    pub id: String,
    /// The image of its mail nodes.
    pub image: String,
    /// What the user wrote.
    pub spec: MailClusterSpec,
    /// How often the user has changed it.
    pub generation: i64,
    /// Makes a child belong to it.
    pub owner: OwnerReference,
}

impl Cluster {
    /// Validates a MailCluster whose id and image are decided.
    ///
    /// # Errors
    /// See [`Invalid`].
    pub fn new(object: &MailCluster, id: &str, image: &str) -> Result<Self, Invalid> {
        let name = object.name_any();
        if name.len() > MAX_CLUSTER_NAME {
            return Err(Invalid::NameTooLong);
        }
        Ok(Self {
            name,
            namespace: object.namespace().ok_or(Invalid::Incomplete("namespace"))?,
            id: id.to_owned(),
            image: image.to_owned(),
            spec: object.spec.clone(),
            generation: object.metadata.generation.unwrap_or(0),
            owner: object.controller_owner_ref(&()).ok_or(Invalid::Incomplete("UID"))?,
        })
    }

    /// From the status alone: for parts that come after the controller has decided id and image.
    #[must_use]
    pub fn from_status(object: &MailCluster) -> Option<Self> {
        let status = object.status.as_ref()?;
        Self::new(object, status.cluster_id.as_deref()?, status.image.as_deref()?).ok()
    }

    /// The names of its objects.
    #[must_use]
    pub fn names(&self) -> ClusterNames {
        ClusterNames::new(self.name.clone())
    }

    /// The number of mail stores there shall be.
    #[must_use]
    pub fn store_count(&self) -> u32 {
        u32::try_from(self.spec.stores.count).unwrap_or(0)
    }

    /// The identity of one of its peers without a store of its own.
    #[must_use]
    pub fn identity(&self, role: Role) -> Identity {
        Identity { cluster_id: self.id.clone(), role, store: None, replica: None }
    }
}

/// A store, as one of its copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: StoreKind,
    /// What the copy is called among those of the store.
    pub letter: char,
    /// The id of the copy.
    pub replica: String,
    /// The PersistentVolumeClaim of the copy.
    pub claim: String,
    /// How many copies the store has.
    pub of: usize,
}

impl Store {
    /// The copies of a store, by their ids and claims, in their order.
    #[must_use]
    pub fn new(name: &str, kind: StoreKind, copies: Vec<(String, String)>) -> Vec<Self> {
        let of = copies.len();
        let copy =
            |((replica, claim), letter)| Self { name: name.to_owned(), kind, letter, replica, claim, of };
        copies.into_iter().zip(REPLICAS).map(copy).collect()
    }

    /// The copies that a MailStore names.
    #[must_use]
    pub fn copies(object: &MailStore) -> Vec<Self> {
        let ids = object.spec.replicas.iter().map(|r| (r.id.clone(), r.pvc.clone())).collect();
        Self::new(&object.name_any(), object.spec.kind, ids)
    }

    /// The first copy that a MailStore names: what belongs to the store as a whole is built for this one.
    #[must_use]
    pub fn of(object: &MailStore) -> Option<Self> {
        Self::copies(object).into_iter().next()
    }

    /// Has its store several copies?
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.of > 1
    }

    /// Is it the first copy of its store?
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.letter == FIRST_REPLICA
    }

    /// The role of its pods.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::of_store(self.kind)
    }

    /// The names of its objects.
    #[must_use]
    pub fn names(&self) -> StoreNames {
        StoreNames::new(self.name.clone())
    }

    /// Its StatefulSet's name.
    #[must_use]
    pub fn stateful_set(&self) -> String {
        self.names().stateful_set(self.letter)
    }

    /// The identity of its pods.
    #[must_use]
    pub fn identity(&self, cluster: &Cluster) -> Identity {
        Identity {
            cluster_id: cluster.id.clone(),
            role: self.role(),
            store: Some(self.name.clone()),
            replica: Some(self.replica.clone()),
        }
    }
}
