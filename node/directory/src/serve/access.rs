//! Who may administer: a bearer token that Kubernetes vouches for, or the owner of the socket.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mailcluster_auth::Lru;
use ring::digest;
use tonic::{Extensions, Status, metadata::MetadataMap, transport::server::UdsConnectInfo};

/// A verified token is believed this long.
const BELIEVED: Duration = Duration::from_secs(30);
/// Longest token in octets.
const LONGEST_TOKEN: usize = 16 << 10;
/// Metadata in which the command says who typed it: noted beside the verified name, never believed.
const CLAIMED: &str = "mailcluster-user";

/// Whom a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUser {
    /// For example `system:serviceaccount:mail:example-admin`.
    pub name: String,
}

/// Why a token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not valid, or not for this audience.
    #[error("the token is not valid here")]
    Denied,
    /// Whoever would know cannot be asked.
    #[error("tokens cannot be checked now: {0}")]
    Unavailable(String),
}

/// Checks bearer tokens (in a cluster by TokenReview).
#[async_trait]
pub trait TokenAuthority: Send + Sync + 'static {
    /// Whose token is this?
    ///
    /// # Errors
    /// [`TokenError`]
    async fn review(&self, token: &str) -> Result<TokenUser, TokenError>;
}

/// Who is let in.
#[derive(Clone)]
pub enum AdminAccess {
    /// A unix socket: its owner, and root. Requests that came another way are refused.
    Socket {
        /// The owner's user id.
        uid: u32,
    },
    /// A bearer token of one of these users.
    Token(Arc<TokenAccess>),
}

/// State of token checks.
pub struct TokenAccess {
    authority: Arc<dyn TokenAuthority>,
    allowed: Vec<String>,
    believed: Mutex<Lru<Vec<u8>, (TokenUser, Instant)>>,
}

impl AdminAccess {
    /// Lets in the `allowed` users of tokens that `authority` vouches for.
    #[must_use]
    pub fn tokens(authority: Arc<dyn TokenAuthority>, allowed: Vec<String>) -> Self {
        Self::Token(Arc::new(TokenAccess { authority, allowed, believed: Mutex::new(Lru::new(256)) }))
    }

    /// Who asks, for the audit log.
    pub(super) async fn admit(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<String, Status> {
        let who = match self {
            Self::Socket { uid } => {
                let peer = extensions.get::<UdsConnectInfo>().and_then(|i| i.peer_cred);
                match peer.map(|p| p.uid()) {
                    Some(peer) if peer == *uid || peer == 0 => format!("uid {peer}"),
                    _ => return Err(Status::permission_denied("the socket is its owner's alone")),
                }
            }
            Self::Token(access) => access.admit(metadata).await?,
        };
        let claimed = metadata.get(CLAIMED).and_then(|v| v.to_str().ok()).filter(|v| v.len() <= 256);
        Ok(match claimed {
            Some(claimed) => format!("{who} (says {claimed:?})"),
            None => who,
        })
    }
}

impl TokenAccess {
    async fn admit(&self, metadata: &MetadataMap) -> Result<String, Status> {
        let header = metadata.get("authorization").and_then(|v| v.to_str().ok());
        let token = header
            .and_then(|h| h.strip_prefix("Bearer "))
            .filter(|t| !t.is_empty() && t.len() <= LONGEST_TOKEN)
            .ok_or_else(|| Status::unauthenticated("a bearer token is needed"))?;
        let user = self.user(token).await?;
        if self.allowed.contains(&user.name) {
            Ok(user.name)
        } else {
            tracing::warn!(user = user.name, "administration refused");
            Err(Status::permission_denied(format!("{} may not administer this cluster", user.name)))
        }
    }

    async fn user(&self, token: &str) -> Result<TokenUser, Status> {
        let key = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec();
        let now = Instant::now();
        let believed = || self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((user, since)) = believed().get_mut(&key)
            && now.saturating_duration_since(*since) < BELIEVED
        {
            return Ok(user.clone());
        }
        match self.authority.review(token).await {
            Ok(user) => {
                believed().insert(key, (user.clone(), now));
                Ok(user)
            }
            Err(error @ TokenError::Denied) => Err(Status::unauthenticated(error.to_string())),
            Err(error @ TokenError::Unavailable(_)) => Err(Status::unavailable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    #[async_trait]
    impl TokenAuthority for Fixed {
        async fn review(&self, token: &str) -> Result<TokenUser, TokenError> {
            match token {
                "good" => Ok(TokenUser { name: "admin".into() }),
                "other" => Ok(TokenUser { name: "somebody".into() }),
                "away" => Err(TokenError::Unavailable("no api server".into())),
                _ => Err(TokenError::Denied),
            }
        }
    }

    #[tokio::test]
    async fn only_the_named_users_tokens_are_let_in() {
        use tonic::Code::{PermissionDenied, Unauthenticated, Unavailable};
        let access = AdminAccess::tokens(Arc::new(Fixed), vec!["admin".into()]);
        for (header, expected) in [
            (Some("Bearer good"), Ok("admin")),
            (Some("Bearer other"), Err(PermissionDenied)),
            (Some("Bearer bad"), Err(Unauthenticated)),
            (Some("Bearer away"), Err(Unavailable)),
            (Some("Bearer "), Err(Unauthenticated)),
            (Some("good"), Err(Unauthenticated)),
            (None, Err(Unauthenticated)),
        ] {
            let mut metadata = MetadataMap::new();
            if let Some(header) = header {
                metadata.insert("authorization", header.parse().unwrap());
            }
            let who = access.admit(&metadata, &Extensions::new()).await;
            assert_eq!(who.as_deref().map_err(|s| s.code()), expected, "{header:?}");
        }
        let socket = AdminAccess::Socket { uid: 0 };
        let who = socket.admit(&MetadataMap::new(), &Extensions::new()).await;
        assert_eq!(who.unwrap_err().code(), PermissionDenied, "not from a socket");
    }

    #[tokio::test]
    async fn what_the_command_claims_is_noted_beside_the_name() {
        let access = AdminAccess::tokens(Arc::new(Fixed), vec!["admin".into()]);
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", "Bearer good".parse().unwrap());
        metadata.insert(CLAIMED, "ann".parse().unwrap());
        assert_eq!(access.admit(&metadata, &Extensions::new()).await.unwrap(), "admin (says \"ann\")");
    }
}
