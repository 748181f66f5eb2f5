//! The session: state, dispatch, tagged answers.

use std::{fmt::Display, time::Duration};

use mailcluster_proto_imap::{
    Command, CommandBody, Decoder, Event, Limits, SyntaxError,
    encode::{self, line_text},
};
use mailcluster_types::{AccountId, BoxStream};

use super::{
    connection::Connection,
    reply::{Done, End, Fail, News, Outcome},
    selected::{Pending, Selected},
};
use crate::SessionContext;

/// Commands that fail one after the other before the connection is closed.
const MAX_ERRORS: u32 = 50;
/// Time to log in; frontends do it at once.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// One IMAP session.
pub(super) struct Session {
    pub context: SessionContext,
    pub connection: Connection,
    /// Set by the login.
    pub account: Option<AccountId>,
    pub selected: Option<Selected>,
    /// The client speaks CONDSTORE (RFC 7162 section 3.1): MODSEQ is told with flags.
    pub condstore: bool,
    /// LOGOUT was given.
    pub leaving: bool,
    errors: u32,
}

impl Session {
    pub fn new(stream: BoxStream, context: SessionContext) -> Self {
        let limits = Limits {
            line: context.limits.max_line,
            literals: 64 << 10,
            skip: context.limits.max_message.saturating_add(1 << 20),
        };
        let decoder = Decoder::new(limits);
        let connection = Connection::new(stream, decoder, context.shutdown.clone(), context.store.clone());
        Self {
            context,
            connection,
            account: None,
            selected: None,
            condstore: false,
            leaving: false,
            errors: 0,
        }
    }

    pub async fn run(mut self) -> End {
        self.greet();
        let end = loop {
            if let Err(end) = self.step().await {
                break end;
            }
        };
        self.connection.close(&end).await;
        end
    }

    /// How long the client may be silent.
    pub fn idle_limit(&self) -> Duration {
        let idle = self.context.limits.imap_idle;
        if self.account.is_some() { idle } else { idle.min(LOGIN_LIMIT) }
    }

    async fn step(&mut self) -> Result<(), End> {
        match self.connection.event(self.idle_limit()).await? {
            Event::Command(command) => self.command(command).await,
            Event::Append(start) => self.append(start).await,
            Event::Invalid { tag, error } => self.invalid(tag.as_deref(), &error),
            Event::Continue => {
                self.connection.put(b"+ Ready for the literal\r\n");
                Ok(())
            }
            // The first three only after expect_line and accept_append, whose callers take them; the connection
            // takes the last.
            Event::Line(_) | Event::AppendData(_) | Event::AppendEnd | Event::Fatal(_) => Ok(()),
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), End> {
        let Command { tag, body } = command;
        let outcome = match body {
            CommandBody::Capability => Ok(self.capability()),
            CommandBody::Noop | CommandBody::Check => self.noop().await,
            CommandBody::Logout => Ok(self.logout()),
            CommandBody::Id(_) => Ok(self.id()),
            CommandBody::StartTls => Err(Fail::bad("TLS is not offered here")),
            CommandBody::Authenticate(authenticate) => self.authenticate(authenticate).await,
            CommandBody::Login(_) => self.login(),
            body if self.account.is_some() => self.authenticated(&tag, body).await,
            _ => Err(Fail::bad("log in first")),
        };
        self.finish(&tag, outcome).await
    }

    async fn authenticated(&mut self, tag: &str, body: CommandBody) -> Outcome {
        match body {
            CommandBody::Enable(names) => Ok(self.enable(&names)),
            CommandBody::Namespace => Ok(self.namespace()),
            CommandBody::Select(select) => self.select(select, false).await,
            CommandBody::Examine(select) => self.select(select, true).await,
            CommandBody::Create(create) => self.create(create).await,
            CommandBody::Delete(name) => self.delete(&name).await,
            CommandBody::Rename(rename) => self.rename(&rename).await,
            CommandBody::Subscribe(name) => self.subscribe(&name, true).await,
            CommandBody::Unsubscribe(name) => self.subscribe(&name, false).await,
            CommandBody::List(list) => self.list(list).await,
            CommandBody::Lsub(lsub) => self.lsub(lsub).await,
            CommandBody::Status(status) => self.status(&status).await,
            CommandBody::Idle => self.idle().await,
            body if self.selected.is_some() => self.in_mailbox(tag, body).await,
            _ => Err(Fail::bad("select a mailbox first")),
        }
    }

    async fn in_mailbox(&mut self, tag: &str, body: CommandBody) -> Outcome {
        match body {
            CommandBody::Close => self.close().await,
            CommandBody::Unselect => Ok(self.unselect()),
            CommandBody::Expunge => self.expunge(None).await,
            CommandBody::UidExpunge(set) => self.expunge(Some(&set)).await,
            CommandBody::Search(search) => self.search(tag, search).await,
            CommandBody::Fetch(fetch) => self.fetch(fetch).await,
            CommandBody::Store(store) => self.store(&store).await,
            CommandBody::Copy(copy) => self.copy(&copy).await,
            CommandBody::Move(copy) => self.move_messages(&copy).await,
            _ => Err(Fail::bad("unknown command")),
        }
    }

    /// Writes a command's answer and what may be told before it. For a change, nothing is awaited here before the
    /// answer is written: such commands come with [`News::None`].
    pub async fn finish(&mut self, tag: &str, outcome: Outcome) -> Result<(), End> {
        let news = match &outcome {
            Ok(done) => done.news,
            Err(_) => News::None,
        };
        if news != News::None {
            let pending = match self.poll().await {
                Ok(pending) => pending,
                Err(Fail::End(end)) => return Err(end),
                Err(_) => Pending::default(),
            };
            self.tell(pending, news);
            if self.account.is_some() && !self.context.store.may_read() {
                return Err(End::Silent("reads may not be served".to_owned()));
            }
        }
        match outcome {
            Ok(done) => {
                self.errors = 0;
                let code = done.code.map(|code| format!("[{code}] ")).unwrap_or_default();
                self.line(tag, "OK", &format!("{code}{}", done.text));
            }
            Err(Fail::No { code, text }) => {
                let code = code.map(|code| format!("[{code}] ")).unwrap_or_default();
                self.line(tag, "NO", &format!("{code}{}", line_text(&text)));
                self.count_error()?;
            }
            Err(Fail::Bad(text)) => {
                self.line(tag, "BAD", &line_text(&text));
                self.count_error()?;
            }
            Err(Fail::End(end)) => return Err(end),
        }
        self.connection.flush().await?;
        if self.goodbye() { Err(End::Bye) } else { Ok(()) }
    }

    fn line(&mut self, tag: &str, condition: &str, text: &str) {
        self.connection.put(format!("{tag} {condition} {text}\r\n").as_bytes());
    }

    /// An untagged line.
    pub fn untagged(&mut self, text: impl Display) {
        self.connection.put(format!("* {text}\r\n").as_bytes());
    }

    fn invalid(&mut self, tag: Option<&str>, error: &SyntaxError) -> Result<(), End> {
        let code = if error.too_big { "[TOOBIG] " } else { "" };
        self.line(tag.unwrap_or("*"), "BAD", &format!("{code}{}", line_text(&error.to_string())));
        self.count_error()
    }

    pub fn count_error(&mut self) -> Result<(), End> {
        self.errors += 1;
        if self.errors < MAX_ERRORS {
            return Ok(());
        }
        self.untagged("BYE too many errors");
        Err(End::Bye)
    }

    /// The account, for commands after the login.
    pub fn account(&self) -> Result<AccountId, Fail> {
        self.account.ok_or_else(|| Fail::bad("log in first"))
    }

    /// The selected mailbox.
    pub fn mailbox(&mut self) -> Result<&mut Selected, Fail> {
        self.selected.as_mut().ok_or_else(|| Fail::bad("select a mailbox first"))
    }

    /// The selected mailbox, if it may be changed.
    pub fn writable(&mut self) -> Result<&mut Selected, Fail> {
        let mailbox = self.mailbox()?;
        if mailbox.read_only {
            return Err(Fail::no("READ-ONLY", "the mailbox was opened with EXAMINE"));
        }
        Ok(mailbox)
    }

    /// Tells everything that was committed before: a client that asks gets what others were told is done.
    async fn noop(&mut self) -> Outcome {
        let pending = self.look().await?;
        self.tell(pending, News::All);
        Ok(Done::new("done").news(News::None))
    }

    /// Reads what others have changed in the selected mailbox, to be told later; nothing when no change has been
    /// noticed. Notice of a change may come a little after its reply.
    pub async fn poll(&mut self) -> Result<Pending, Fail> {
        if self.selected.as_ref().is_some_and(Selected::may_have_changed) {
            self.look().await
        } else {
            Ok(Pending::default())
        }
    }

    /// The same, whether a change has been noticed or not.
    pub async fn look(&mut self) -> Result<Pending, Fail> {
        let Some(selected) = &mut self.selected else { return Ok(Pending::default()) };
        selected.watch.borrow_and_update();
        let (mailbox, modseq) = (selected.id, selected.modseq);
        let changes = self
            .context
            .store
            .read(move |view| match view.mailbox(mailbox)? {
                Some(_) => view.changes(mailbox, modseq).map(Some),
                None => Ok(None),
            })
            .await?;
        match changes {
            Some(changes) => Ok(Pending::new(changes)),
            None => Err(End::MailboxDeleted.into()),
        }
    }

    /// The same after a change was committed: from here on there is success or no answer, so a failed look at the
    /// news only postpones them.
    pub async fn poll_after_change(&mut self) -> Result<Pending, End> {
        match self.look().await {
            Ok(pending) => Ok(pending),
            Err(Fail::End(end @ End::Silent(_))) => Err(end),
            Err(_) => {
                if let Some(selected) = &mut self.selected {
                    selected.watch.mark_changed();
                }
                Ok(Pending::default())
            }
        }
    }

    /// Tells what was read by [`Self::poll`].
    pub fn tell(&mut self, pending: Pending, news: News) {
        if let Some(selected) = &mut self.selected {
            selected.tell(pending, news == News::All, self.condstore, self.connection.out());
        }
    }

    /// A mailbox name as it is written in an untagged line.
    pub fn put_mailbox(&mut self, name: &str) {
        encode::mailbox(self.connection.out(), name);
    }
}
