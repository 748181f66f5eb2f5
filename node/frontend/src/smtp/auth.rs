//! AUTH (RFC 4954): submission, over TLS only.

use mailcluster_proto_smtp::Reply;
use mailcluster_types::{AuthOutcome, AuthRequest};

use super::{
    Service,
    credentials::{self, AuthFault, Credentials},
    metrics,
    session::{End, OUT_OF_ORDER, Session},
};
use crate::{login::DIRECTORY_LIMIT, screened};

/// Failed logins of one session before it is ended.
const MAX_FAILED_LOGINS: u32 = 3;

impl Session {
    pub(super) async fn auth(&mut self, mechanism: &str, initial: Option<String>) -> Result<Reply, End> {
        if self.service == Service::Mx {
            return Ok(Reply::new(502, "5.5.1 AUTH not offered here: use the submission port"));
        }
        if self.client.tls.is_none() {
            return Ok(Reply::new(538, "5.7.11 TLS is required before AUTH"));
        }
        if !self.may_log_in() || self.hello.is_none() || self.envelope.is_some() {
            return Ok(OUT_OF_ORDER);
        }
        let credentials = match mechanism {
            "PLAIN" => self.plain(initial).await?,
            "LOGIN" => self.login(initial).await?,
            _ => return Ok(Reply::new(504, "5.5.4 mechanism not offered")),
        };
        match credentials {
            Ok(credentials) => self.check(credentials).await,
            Err(AuthFault::Cancelled) => Ok(Reply::new(501, "5.7.0 cancelled")),
            Err(AuthFault::Malformed) => Ok(Reply::new(501, "5.5.2 malformed response")),
            Err(AuthFault::ForAnother) => self.rejected().await,
        }
    }

    async fn plain(&mut self, initial: Option<String>) -> Result<Result<Credentials, AuthFault>, End> {
        match initial {
            Some(response) => Ok(credentials::plain(response.as_bytes())),
            None => Ok(self.challenge("").await?.and_then(|response| credentials::plain(&response))),
        }
    }

    async fn login(&mut self, initial: Option<String>) -> Result<Result<Credentials, AuthFault>, End> {
        let user = match initial {
            Some(response) => credentials::login(response.as_bytes()),
            // "Username:"
            None => self.challenge("VXNlcm5hbWU6").await?.and_then(|response| credentials::login(&response)),
        };
        let user = match user {
            Ok(user) => user,
            Err(fault) => return Ok(Err(fault)),
        };
        // "Password:"
        let password =
            self.challenge("UGFzc3dvcmQ6").await?.and_then(|response| credentials::login(&response));
        Ok(password.map(|password| Credentials { user, password: password.into() }))
    }

    async fn challenge(&mut self, challenge: &'static str) -> Result<Result<bytes::Bytes, AuthFault>, End> {
        self.wire.answer(&Reply::new(334, challenge)).await?;
        let deadline = self.deadline();
        Ok(self.wire.line(deadline).await?.map_err(|_| AuthFault::Malformed))
    }

    async fn check(&mut self, credentials: Credentials) -> Result<Reply, End> {
        let request = AuthRequest {
            user: credentials.user,
            password: credentials.password,
            client: self.client.clone(),
            service: "submission",
        };
        match screened::authenticate(&self.context, &request, DIRECTORY_LIMIT).await {
            Ok(AuthOutcome::Accepted(account)) => {
                metrics::login("accepted");
                tracing::info!(session = %self.client.session, account = %account.id, "logged in for submission");
                self.account = Some(account);
                Ok(Reply::new(235, "2.7.0 authenticated"))
            }
            Ok(AuthOutcome::Rejected) => self.rejected().await,
            Ok(AuthOutcome::Throttled(seconds)) => {
                metrics::login("throttled");
                Ok(Reply::with(454, format!("4.7.0 too many failed logins, wait {seconds} seconds")))
            }
            Err(error) => {
                metrics::login("unavailable");
                tracing::warn!(session = %self.client.session, %error, "login could not be checked");
                Ok(Reply::new(454, "4.7.0 cannot check now, try again"))
            }
        }
    }

    /// The same answer whatever was wrong.
    async fn rejected(&mut self) -> Result<Reply, End> {
        metrics::login("rejected");
        tracing::info!(session = %self.client.session, remote = %self.client.remote.ip(), "login rejected");
        let reply = Reply::new(535, "5.7.8 authentication failed");
        self.failed_logins += 1;
        if self.failed_logins < MAX_FAILED_LOGINS {
            return Ok(reply);
        }
        self.wire.answer(&reply).await?;
        self.wire.answer(&Reply::new(421, "4.7.0 too many failed logins")).await?;
        Err(End::Told("too many failed logins"))
    }
}
