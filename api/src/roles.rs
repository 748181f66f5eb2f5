//! The roles of the peers inside a cluster, and how a certificate names them:
//! `spiffe://<cluster id>.mailcluster/<role>[/<store>[/<replica id>]]`.

use std::fmt;

use crate::mailstore::StoreKind;

/// What a peer inside the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A stateless pod that clients talk to.
    Frontend,
    /// A pod that serves a mail store.
    Backend,
    /// A pod that serves the directory.
    Directory,
    /// The operator.
    Operator,
}

impl Role {
    /// As it stands in certificates, labels and the node's command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Directory => "directory",
            Self::Operator => "operator",
        }
    }

    /// The role of the pods that serve a store of this kind.
    #[must_use]
    pub fn of_store(kind: StoreKind) -> Self {
        match kind {
            StoreKind::Mail => Self::Backend,
            StoreKind::Directory => Self::Directory,
        }
    }

    /// The DNS name in the certificate, which a peer asks for when it connects.
    #[must_use]
    pub fn dns_name(self) -> String {
        format!("{}.mailcluster.internal", self.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster id, 32 hexadecimal digits.
    pub cluster_id: String,
    /// What the peer is.
    pub role: Role,
    /// The store it serves, if it serves one.
    pub store: Option<String>,
    /// The replica of the store.
    pub replica: Option<String>,
}

impl Identity {
    /// The URI of the certificate's subject alternative name.
    #[must_use]
    pub fn uri(&self) -> String {
        let mut uri = format!("spiffe://{}.mailcluster/{}", self.cluster_id, self.role);
        for part in [&self.store, &self.replica].into_iter().flatten() {
            uri.push('/');
            uri.push_str(part);
        }
        uri
    }

    /// Reads what [`Self::uri`] wrote; `None` for anything else.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("spiffe://")?;
        let (host, path) = rest.split_once('/')?;
        let cluster_id = host.strip_suffix(".mailcluster")?;
        if cluster_id.len() != 32 || !cluster_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut parts = path.split('/');
        let role = match parts.next()? {
            "frontend" => Role::Frontend,
            "backend" => Role::Backend,
            "directory" => Role::Directory,
            "operator" => Role::Operator,
            _ => return None,
        };
        let mut part = || match parts.next() {
            Some("") => Err(()),
            other => Ok(other.map(str::to_owned)),
        };
        let (store, replica) = (part().ok()?, part().ok()?);
        parts.next().is_none().then(|| Self { cluster_id: cluster_id.to_owned(), role, store, replica })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_text() {
        let id = "0123456789abcdef0123456789abcdef";
        for (store, replica) in [(None, None), (Some("demo-0"), None), (Some("demo-0"), Some(id))] {
            let identity = Identity {
                cluster_id: id.into(),
                role: Role::Backend,
                store: store.map(Into::into),
                replica: replica.map(Into::into),
            };
            assert_eq!(Identity::parse(&identity.uri()), Some(identity));
        }
        for bad in [
            "spiffe://x.mailcluster/backend",
            "https://0123456789abcdef0123456789abcdef.mailcluster/backend",
            "spiffe://0123456789abcdef0123456789abcdef.mailcluster/root",
            "spiffe://0123456789abcdef0123456789abcdef.mailcluster/backend//x",
            "spiffe://0123456789abcdef0123456789abcdef.mailcluster/backend/a/b/c",
        ] {
            assert_eq!(Identity::parse(bad), None, "{bad}");
        }
    }
}
