//! Mail from other sites is judged: its client at RCPT, the message at its end.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use mailcluster_lmtp::{Body, Checked};
use mailcluster_proto_smtp::{Path, Reply};
use mailcluster_verdict::{Action, Checks, Mail, Text, Verdict};

use super::{Service, envelope::Envelope, metrics, receive::no_spool, session::Session, spool::Message};

/// A message as it came, before anything was added.
pub(super) struct Came<'a> {
    /// The header section.
    pub(super) header: &'a [u8],
    /// What is behind it.
    pub(super) text: &'a Message,
    /// That begins with the empty line.
    pub(super) parted: bool,
}

#[async_trait]
impl Text for Came<'_> {
    async fn piece(&self, offset: u64) -> io::Result<Bytes> {
        self.text.piece(offset + if self.parted { 2 } else { 0 }).await
    }
}

impl Session {
    /// What judges this session's mail: other sites', not users'.
    fn checks(&self) -> Option<&Checks> {
        self.context.checks.as_deref().filter(|_| self.service == Service::Mx)
    }

    /// Refuses recipients to clients that DNS lists have, but for postmaster: who is listed must be able to ask why
    /// (RFC 5321 section 4.5.1).
    pub(super) async fn check_client(&mut self, path: &Path) -> Result<(), (Reply, &'static str)> {
        let client = self.client.remote.ip();
        if self.listed.is_none() {
            let Some(checks) = self.checks() else { return Ok(()) };
            let listed = checks.listed(client).await;
            listed.iter().for_each(|listed| {
                tracing::info!(session = %self.client.session, %client, zone = %listed.zone, answer = %listed.answer, "listed");
            });
            self.listed = Some(listed);
        }
        let is_postmaster = match path {
            Path::Postmaster => true,
            Path::Mailbox(mailbox) => {
                mailbox.rsplit_once('@').is_some_and(|(local, _)| local.eq_ignore_ascii_case("postmaster"))
            }
            Path::Null => false,
        };
        let refusal = self.listed.as_deref().and_then(|listed| Checks::refusal(listed, client));
        match refusal.filter(|_| !is_postmaster) {
            Some(text) => Err((Reply::with(550, text), "dnsbl")),
            None => Ok(()),
        }
    }

    /// Judges the message, and answers the field that says what was found; empty when nothing was looked at.
    pub(super) async fn judge(
        &self,
        envelope: &mut Envelope,
        came: Came<'_>,
    ) -> Result<String, (Reply, &'static str)> {
        let Some(checks) = self.checks().filter(|checks| checks.judges()) else { return Ok(String::new()) };
        let mail = Mail {
            client: self.client.remote.ip(),
            helo: self.hello.as_ref().map_or("", |hello| hello.name.as_str()),
            sender: &envelope.sender,
            header: came.header,
            listed: self.listed.clone().unwrap_or_default(),
        };
        let Verdict { action, field, results } = checks.judge(&mail, &came).await.map_err(|error| {
            tracing::error!(%error, "spool failed");
            no_spool()
        })?;
        for (check, outcome) in results.by_check() {
            metrics::check(check, outcome.word());
        }
        metrics::verdict(action.word());
        envelope.checked = Checked { junk: action == Action::Junk, met: results.summary() };
        tracing::info!(
            id = %envelope.id,
            session = %self.client.session,
            sender = %envelope.sender,
            met = %envelope.checked.met,
            action = action.word(),
            "message checked"
        );
        match action {
            Action::Deliver | Action::Junk => Ok(field),
            Action::Later => {
                Err((Reply::new(451, "4.3.2 too many messages are being checked, try again"), "checks"))
            }
            Action::Refuse(text) => Err((Reply::with(550, text), "checks")),
        }
    }
}
