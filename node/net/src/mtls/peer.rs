//! The name in a pod's certificate: `spiffe://<cluster id>.mailcluster/<role>[/<store>[/<replica id>]]` as a URI
//! subject alternative name, beside the DNS name `<role>.mailcluster.internal` that TLS itself checks.

use std::{fmt, str::FromStr};

use mailcluster_types::{ClusterId, ReplicaId, StoreName};

/// What a pod is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Faces the clients.
    Frontend,
    /// Serves a store.
    Backend,
    /// Serves the directory.
    Directory,
    /// Runs the cluster.
    Operator,
}

impl Role {
    /// As it stands in certificates.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Directory => "directory",
            Self::Operator => "operator",
        }
    }

    /// The DNS name of a certificate of this role, which is also the TLS server name to ask for.
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

impl FromStr for Role {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        [Self::Frontend, Self::Backend, Self::Directory, Self::Operator]
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or(PeerError)
    }
}

/// Who a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its cluster.
    pub cluster: ClusterId,
    /// What it is for.
    pub role: Role,
    /// The store it serves.
    pub store: Option<StoreName>,
    /// The copy of the store.
    pub replica: Option<ReplicaId>,
}

/// The text names no peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name of the form spiffe://<cluster id>.mailcluster/<role>[/<store>[/<replica id>]]")]
pub struct PeerError;

/// A store's name as the operator makes it: a DNS-1123 name.
pub(crate) fn is_store_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        let rest = text.strip_prefix("spiffe://").ok_or(PeerError)?;
        let mut parts = rest.split('/');
        let host = parts.next().ok_or(PeerError)?;
        let cluster = host.strip_suffix(".mailcluster").ok_or(PeerError)?.parse().map_err(|_| PeerError)?;
        let role = parts.next().ok_or(PeerError)?.parse()?;
        let store = parts.next().map(|s| if is_store_name(s) { Ok(s.into()) } else { Err(PeerError) });
        let replica = parts.next().map(|r| r.parse().map_err(|_| PeerError)).transpose()?;
        if parts.next().is_some() {
            return Err(PeerError);
        }
        Ok(Self { cluster, role, store: store.transpose()?, replica })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}.mailcluster/{}", self.cluster, self.role)?;
        let Some(store) = &self.store else { return Ok(()) };
        write!(f, "/{store}")?;
        self.replica.map_or(Ok(()), |replica| write!(f, "/{replica}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peers() {
        let hex = "0123456789abcdef0123456789abcdef";
        for good in [
            format!("spiffe://{hex}.mailcluster/frontend"),
            format!("spiffe://{hex}.mailcluster/backend/mail-0"),
            format!("spiffe://{hex}.mailcluster/directory/mail-directory/{hex}"),
        ] {
            assert_eq!(good.parse::<Peer>().map(|p| p.to_string()), Ok(good));
        }
        for bad in [
            String::new(),
            "spiffe://x.mailcluster/frontend".to_owned(),
            format!("spiffe://{hex}.other/frontend"),
            format!("spiffe://{hex}.mailcluster"),
            format!("spiffe://{hex}.mailcluster/root"),
            format!("spiffe://{hex}.mailcluster/backend/"),
            format!("spiffe://{hex}.mailcluster/backend/A b"),
            format!("spiffe://{hex}.mailcluster/backend/mail-0/{hex}/x"),
            format!("https://{hex}.mailcluster/frontend"),
        ] {
            assert_eq!(bad.parse::<Peer>(), Err(PeerError), "{bad}");
        }
    }
}
