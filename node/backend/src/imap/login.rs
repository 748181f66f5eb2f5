//! CAPABILITY, ID, ENABLE, AUTHENTICATE, LOGIN, LOGOUT.
//!
//! The frontend has checked the password; here AUTHENTICATE EXTERNAL (RFC 4422 appendix A) says that the session
//! takes over the account that came with the connection. Nothing else logs in.

use mailcluster_proto_imap::{
    BEFORE_LOGIN, EXTENSIONS, Event,
    command::{Authenticate, Secret},
};

use super::{
    reply::{Done, Fail, News, Outcome},
    session::Session,
};

impl Session {
    pub(super) fn greet(&mut self) {
        let text = format!("OK [CAPABILITY {}] {} ready", self.capabilities(), self.context.hostname);
        self.untagged(text);
    }

    fn capabilities(&self) -> String {
        if self.account.is_some() {
            let limit = self.context.limits.max_message;
            format!("IMAP4rev1 {} APPENDLIMIT={limit}", EXTENSIONS.join(" "))
        } else {
            format!("IMAP4rev1 {} AUTH=EXTERNAL LOGINDISABLED", BEFORE_LOGIN.join(" "))
        }
    }

    pub(super) fn capability(&mut self) -> Done {
        let text = format!("CAPABILITY {}", self.capabilities());
        self.untagged(text);
        Done::new("that is all").news(News::None)
    }

    pub(super) fn id(&mut self) -> Done {
        self.untagged("ID (\"name\" \"mailcluster\")");
        Done::new("pleased to meet you").news(News::None)
    }

    /// Tells what was enabled now (RFC 5161 section 3.2); what is unknown is passed over.
    pub(super) fn enable(&mut self, names: &[String]) -> Done {
        if names.iter().any(|name| name == "CONDSTORE") {
            self.condstore = true;
            self.untagged("ENABLED CONDSTORE");
        } else {
            self.untagged("ENABLED");
        }
        Done::new("enabled").news(News::None)
    }

    pub(super) fn login(&self) -> Outcome {
        if self.account.is_some() {
            return Err(Fail::bad("already logged in"));
        }
        Err(Fail::no("AUTHORIZATIONFAILED", "only AUTHENTICATE EXTERNAL is taken here"))
    }

    pub(super) async fn authenticate(&mut self, authenticate: Authenticate) -> Outcome {
        if self.account.is_some() {
            return Err(Fail::bad("already logged in"));
        }
        if authenticate.mechanism != "EXTERNAL" {
            return Err(Fail::no("AUTHORIZATIONFAILED", "only EXTERNAL is taken here"));
        }
        // The authorisation identity is the address, for a peer's logs: who it is came with the connection.
        if authenticate.initial.is_none() {
            self.ask_for_identity().await?;
        }
        let Some(account) = self.context.account else {
            return Err(Fail::no("AUTHENTICATIONFAILED", "the connection names no account"));
        };
        let known = self.context.store.read(move |view| view.account(account)).await?;
        match known {
            // Never "no such user": the account may be on its way here, or elsewhere (invariant I10).
            None => Err(Fail::no("UNAVAILABLE", "the account is not served here now")),
            Some(known) if known.suspended => {
                Err(Fail::no("AUTHORIZATIONFAILED", "the account is suspended"))
            }
            Some(_) => {
                self.account = Some(account);
                let code = format!("CAPABILITY {}", self.capabilities());
                Ok(Done::new("logged in").code(code).news(News::None))
            }
        }
    }

    async fn ask_for_identity(&mut self) -> Result<Secret, Fail> {
        self.connection.put(b"+ \r\n");
        self.connection.decoder.expect_line();
        match self.connection.event(self.idle_limit()).await? {
            Event::Line(line) if line.as_ref() == b"*" => Err(Fail::bad("cancelled")),
            Event::Line(line) => Ok(Secret(line.to_vec())),
            _ => Err(Fail::bad("expected the answer to AUTHENTICATE")),
        }
    }

    pub(super) fn logout(&mut self) -> Done {
        self.untagged("BYE see you");
        self.leaving = true;
        Done::new("logged out").news(News::None)
    }

    /// Was this the last answer?
    pub(super) fn goodbye(&self) -> bool {
        self.leaving
    }
}
