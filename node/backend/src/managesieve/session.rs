//! One session: reads commands, answers them.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use mailcluster_net::stream::read_into;
use mailcluster_proto_managesieve::{
    Capabilities, Code, Command, CommandError, Decoder, Event, Limits, bye, no, ok, string,
};
use mailcluster_sieve::Warning;
use mailcluster_store::{MAX_SCRIPT, MAX_SCRIPTS, ReadError, Receipt, Refusal, ScriptChange, WriteError};
use mailcluster_types::{AccountId, BoxStream};
use tokio::io::AsyncWriteExt;

use crate::{SessionContext, sieve};

/// A script that is too large is read over up to this size.
const LIMITS: Limits = Limits { line: 8 << 10, literals: MAX_SCRIPT + 4096, skip: 16 << 20 };
/// Wrong commands of one session before it is ended.
const MAX_ERRORS: u32 = 20;
/// Warnings of one script that are told.
const MAX_WARNINGS: usize = 20;
/// Longest wait for the last words to go out.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Ends the session.
enum Stop {
    /// With what is written already.
    Quit,
    /// With these last words.
    Bye(&'static str),
    /// At once: nothing may be said.
    Fenced,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotServing => Self::Fenced,
            error => {
                tracing::error!(%error, "scripts cannot be read");
                Self::Bye("scripts cannot be read now")
            }
        }
    }
}

type Flow<T = ()> = Result<T, Stop>;

struct Session {
    stream: BoxStream,
    decoder: Decoder,
    out: Vec<u8>,
    context: SessionContext,
    /// Who has logged in, and its address.
    owner: Option<(AccountId, String)>,
    errors: u32,
}

/// Serves a session.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn run(stream: BoxStream, context: SessionContext) -> io::Result<()> {
    let (decoder, out) = (Decoder::new(LIMITS), Vec::new());
    let mut session = Session { stream, decoder, out, context, owner: None, errors: 0 };
    ok(&mut session.out, None, "mailcluster ManageSieve ready");
    let stop = loop {
        if let Err(stop) = session.step().await {
            break stop;
        }
    };
    match stop {
        Stop::Io(error) => return Err(error),
        Stop::Fenced => return Ok(()),
        Stop::Bye(text) => bye(&mut session.out, Some(Code::TryLater), text),
        Stop::Quit => {}
    }
    let last = async {
        session.stream.write_all(&session.out).await?;
        session.stream.shutdown().await
    };
    tokio::time::timeout(LAST_WORDS, last).await.unwrap_or(Ok(()))
}

impl Session {
    async fn step(&mut self) -> Flow {
        match self.event().await? {
            Event::Command(command) => self.command(command).await,
            // It is not asked for here.
            Event::Response(_) => self.wrong("not now"),
            Event::Invalid(CommandError::TooLarge) => {
                no(
                    &mut self.out,
                    Some(Code::QuotaMaxSize),
                    &format!("a script has at most {MAX_SCRIPT} octets"),
                );
                Ok(())
            }
            Event::Invalid(error) => self.wrong(&error.to_string()),
            Event::Fatal(text) => Err(Stop::Bye(text)),
        }
    }

    /// Writes what is to be written before it waits.
    async fn event(&mut self) -> Flow<Event> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return Ok(event);
            }
            self.flush().await?;
            let (decoder, idle) = (&mut self.decoder, self.context.limits.imap_idle);
            let read = tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => return Err(Stop::Bye("this server is going down")),
                read = read_into(&mut self.stream, |octets| decoder.feed(octets)) => read?,
                () = tokio::time::sleep(idle) => return Err(Stop::Bye("idle for too long")),
            };
            if read == 0 {
                return Err(Stop::Quit);
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        let writing = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        // A client that does not read is as idle as one that does not write.
        let written = tokio::time::timeout(self.context.limits.imap_idle, writing).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    fn wrong(&mut self, text: &str) -> Flow {
        no(&mut self.out, None, text);
        self.errors += 1;
        if self.errors >= MAX_ERRORS { Err(Stop::Bye("too many errors")) } else { Ok(()) }
    }

    async fn command(&mut self, command: Command) -> Flow {
        match command {
            Command::Capability => self.capability(),
            Command::Logout => {
                ok(&mut self.out, None, "bye");
                return Err(Stop::Quit);
            }
            Command::Noop(None) => ok(&mut self.out, None, "done"),
            Command::Noop(Some(text)) => self.noop(&text),
            Command::Authenticate { mechanism, initial } => {
                return self.authenticate(&mechanism, initial.map(|initial| initial.0)).await;
            }
            Command::StartTls | Command::Unauthenticate => return self.wrong("not offered here"),
            command => match self.owner.as_ref().map(|(account, _)| *account) {
                // Whatever shows state may be said only by a replica that may serve reads.
                Some(_) if !self.context.store.may_read() => return Err(Stop::Fenced),
                Some(account) => return self.of_owner(account, command).await,
                None => return self.wrong("log in first"),
            },
        }
        Ok(())
    }

    fn capability(&mut self) {
        let owner = self.owner.as_ref().map(|(_, address)| address.as_str());
        let sasl = if owner.is_some() { "" } else { "EXTERNAL" };
        let names: Vec<_> = mailcluster_sieve::Capabilities::at_delivery().names().collect();
        let redirects = sieve::limits().redirects;
        Capabilities { sieve: names.join(" "), sasl, starttls: false, redirects, owner }.write(&mut self.out);
        ok(&mut self.out, None, "");
    }

    /// RFC 5804 section 2.13.
    fn noop(&mut self, text: &Bytes) {
        self.out.extend_from_slice(b"OK (TAG ");
        string(&mut self.out, text);
        self.out.extend_from_slice(b") \"done\"\r\n");
    }

    async fn authenticate(&mut self, mechanism: &str, initial: Option<Bytes>) -> Flow {
        if self.owner.is_some() || mechanism != "EXTERNAL" {
            return self.wrong("only EXTERNAL is offered here, once");
        }
        let address = initial.and_then(|response| STANDARD.decode(response).ok());
        let Some(address) = address.and_then(|octets| String::from_utf8(octets).ok()) else {
            return self.wrong("EXTERNAL needs an authorization identity in base 64");
        };
        let Some(account) = self.context.account else {
            return self.wrong("this connection names no account");
        };
        // Frontends remember logins for a while and may not know yet.
        let suspended = self
            .context
            .store
            .read(move |view| Ok(view.account(account)?.is_none_or(|found| found.suspended)));
        if suspended.await? {
            no(&mut self.out, None, "the account is suspended");
            return Ok(());
        }
        self.owner = Some((account, address));
        ok(&mut self.out, None, "logged in");
        Ok(())
    }

    async fn of_owner(&mut self, account: AccountId, command: Command) -> Flow {
        match command {
            Command::ListScripts => return self.list(account).await,
            Command::GetScript(name) => return self.get(account, name).await,
            Command::HaveSpace { name, size } => return self.have_space(account, (name, size)).await,
            Command::CheckScript(script) => self.compiles(script).await?,
            Command::PutScript { name, script } => {
                if let Some(warnings) = self.compiles_quietly(&script).await? {
                    let put = ScriptChange::Put { name, text: script };
                    return self.change(account, put, &warnings).await;
                }
            }
            Command::SetActive(name) => return self.change(account, ScriptChange::Activate(name), "").await,
            Command::DeleteScript(name) => {
                return self.change(account, ScriptChange::Delete(name), "").await;
            }
            Command::RenameScript { from, to } => {
                return self.change(account, ScriptChange::Rename { from, to }, "").await;
            }
            _ => return self.wrong("not now"),
        }
        Ok(())
    }

    async fn list(&mut self, account: AccountId) -> Flow {
        for script in self.context.store.read(move |view| view.scripts(account)).await? {
            string(&mut self.out, script.name.as_bytes());
            self.out.extend_from_slice(if script.active { b" ACTIVE\r\n" } else { b"\r\n" });
        }
        ok(&mut self.out, None, "");
        Ok(())
    }

    async fn get(&mut self, account: AccountId, name: String) -> Flow {
        match self.context.store.read(move |view| view.script(account, &name)).await? {
            Some(text) => {
                // Always a literal (RFC 5804 section 2.9 shows one): some clients know no other.
                self.out.extend_from_slice(format!("{{{}}}\r\n", text.len()).as_bytes());
                self.out.extend_from_slice(&text);
                self.out.extend_from_slice(b"\r\n");
                ok(&mut self.out, None, "");
            }
            None => no(&mut self.out, Some(Code::NonExistent), "no such script"),
        }
        Ok(())
    }

    async fn have_space(&mut self, account: AccountId, (name, size): (String, u64)) -> Flow {
        let scripts = self.context.store.read(move |view| view.scripts(account)).await?;
        let is_new = scripts.iter().all(|script| script.name != name);
        if size > MAX_SCRIPT as u64 {
            self.refused(&Refusal::TooLarge { limit: MAX_SCRIPT as u64 });
        } else if is_new && scripts.len() as u64 >= MAX_SCRIPTS {
            self.refused(&Refusal::TooManyScripts { limit: MAX_SCRIPTS });
        } else if !self.context.store.has_room(size) {
            self.refused(&Refusal::Full);
        } else {
            ok(&mut self.out, None, "");
        }
        Ok(())
    }

    /// Says whether a script can be run.
    async fn compiles(&mut self, script: Bytes) -> Flow {
        if let Some(warnings) = self.compiles_quietly(&script).await? {
            self.well_done(&warnings);
        }
        Ok(())
    }

    /// The warnings for a script that can be run; of another it says why not.
    async fn compiles_quietly(&mut self, script: &Bytes) -> Flow<Option<String>> {
        let script = script.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            sieve::compile(&script)
                .map(|compiled| told(compiled.warnings()))
                .map_err(|error| error.to_string())
        });
        match compiled.await {
            Ok(Ok(warnings)) => Ok(Some(warnings)),
            Ok(Err(why)) => {
                no(&mut self.out, None, &why);
                Ok(None)
            }
            Err(error) => {
                tracing::error!(%error, "a script could not be compiled");
                Err(Stop::Bye("the script cannot be checked now"))
            }
        }
    }

    fn well_done(&mut self, warnings: &str) {
        let code = (!warnings.is_empty()).then_some(Code::Warnings);
        ok(&mut self.out, code, warnings);
    }

    async fn change(&mut self, account: AccountId, change: ScriptChange, warnings: &str) -> Flow {
        match self.context.store.change_scripts(account, change).await.and_then(acknowledged) {
            Ok(()) => self.well_done(warnings),
            Err(WriteError::Refused(refusal)) => self.refused(&refusal),
            // After an append there is success or a closed connection.
            Err(WriteError::Unknown | WriteError::NotServing) => return Err(Stop::Fenced),
        }
        Ok(())
    }

    fn refused(&mut self, refusal: &Refusal) {
        let code = match refusal {
            Refusal::NoSuchScript => Some(Code::NonExistent),
            Refusal::AlreadyExists => Some(Code::AlreadyExists),
            Refusal::ScriptIsActive => Some(Code::Active),
            Refusal::TooManyScripts { .. } => Some(Code::QuotaMaxScripts),
            Refusal::TooLarge { .. } => Some(Code::QuotaMaxSize),
            Refusal::OverQuota => Some(Code::Quota),
            Refusal::Full | Refusal::NoSuchAccount(_) => Some(Code::TryLater),
            _ => None,
        };
        no(&mut self.out, code, &refusal.to_string());
    }
}

fn acknowledged(receipt: Receipt<()>) -> Result<(), WriteError> {
    receipt.acknowledge().map_err(|_| WriteError::Unknown)
}

/// Warnings, one in a line.
fn told(warnings: &[Warning]) -> String {
    let lines =
        warnings.iter().take(MAX_WARNINGS).map(|warning| format!("{}: {}", warning.at, warning.message));
    lines.collect::<Vec<_>>().join("\r\n")
}
