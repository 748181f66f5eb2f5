//! A Maildir as Dovecot leaves it, what an account has, and a way to a node that changes its port.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use mailcluster_test_clients::{ImapClient, Tls};

/// A message with what must be kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Where its file's name begins.
    pub start: String,
    /// With CRLF.
    pub text: Vec<u8>,
    pub flags: BTreeSet<String>,
    /// Seconds since 1970.
    pub date: i64,
}

/// What a mailbox of an account has, in the order of UIDs.
#[derive(Debug, Default)]
pub struct Mailbox {
    pub mails: Vec<Mail>,
    pub subscribed: bool,
    pub special_use: String,
}

/// Mailboxes and their messages.
pub type Expected = BTreeMap<String, Vec<Mail>>;

impl Mail {
    pub fn new(subject: &str, lines: usize, flags: &[&str], date: i64) -> Self {
        let mut text = format!("From: joe@example.org\r\nSubject: {subject}\r\nDate: a while ago\r\n\r\n");
        for line in 0..lines {
            text.push_str(&format!("From line {line} of {subject}, \u{e4}\u{1f4e7}.\r\n"));
        }
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { start: String::new(), text: text.into_bytes(), flags, date }
    }

    /// As a Maildir has it: line ends of Unix.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, String::from_utf8(self.text.clone())?.replace("\r\n", "\n"))?;
        File::open(path)?.set_modified(UNIX_EPOCH + Duration::from_secs(self.date.try_into()?))?;
        Ok(())
    }
}

/// Makes a Maildir with `count` messages in INBOX and a few folders; answers what must come of it.
pub fn maildir(path: &Path, count: usize) -> Result<Expected> {
    let mut expected = Expected::new();
    for (folder, name, count) in [
        ("", "INBOX", count),
        (".Sent", "Sent", 3),
        (".Lists.Rust", "Lists/Rust", count / 4 + 1),
        (".Entw&APw-rfe", "Entw\u{fc}rfe", 1),
    ] {
        let folder = path.join(folder);
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("dovecot-keywords"), "0 $Forwarded\n1 Work\n")?;
        let mut uids = String::from("3 V1700000000 N99999 G0123456789abcdef0123456789abcdef\n");
        let mails: Vec<Mail> = (0..count).map(|n| mail(name, n)).collect();
        for (n, mail) in mails.iter().enumerate() {
            let letters = letters(n);
            let base = format!("{},S={}", mail.start, mail.text.len());
            // Dovecot leaves messages in `new` also when they have flags.
            let file = match (letters, mail.flags.is_empty()) {
                ("new", true) => format!("new/{base}"),
                ("new", false) => format!("new/{base}:2,Sb"),
                _ => format!("cur/{base}:2,{letters}"),
            };
            mail.write(&folder.join(file))?;
            uids.push_str(&format!("{} :{base}\n", n * 2 + 1));
        }
        fs::write(folder.join("dovecot-uidlist"), uids)?;
        expected.insert(name.to_owned(), mails);
    }
    fs::write(path.join("subscriptions"), "V\t2\n\nINBOX\nLists\tRust\n")?;
    Ok(expected)
}

fn letters(n: usize) -> &'static str {
    ["S", "", "FSa", "D", "new", "new", "RS"][n % 7]
}

fn mail(mailbox: &str, n: usize) -> Mail {
    let flags: &[&str] = [
        &["\\Seen"][..],
        &[],
        &["\\Flagged", "\\Seen", "$Forwarded"],
        &["\\Draft"],
        &["\\Seen", "Work"],
        &[],
        &["\\Answered", "\\Seen"],
    ][n % 7];
    // Every tenth is like the one before it, but for its name and date; dates go down while UIDs go up.
    let date = 1_700_000_000 - i64::try_from(n / 3).unwrap_or(0);
    let twin = n - usize::from(n % 10 == 9);
    let mut mail = Mail::new(&format!("{mailbox} {twin}"), twin % 50, flags, date);
    mail.start = format!("{date}.M{n}P7.host");
    mail
}

/// Everything that an account has.
pub fn stored(
    address: SocketAddr,
    user: &str,
    password: &str,
    limit: Duration,
) -> Result<BTreeMap<String, Mailbox>> {
    let mut client = ImapClient::login(address, Tls::Implicit, limit, user, password)?;
    let mut boxes = BTreeMap::new();
    for told in client.ok("LIST \"\" \"*\" RETURN (SUBSCRIBED SPECIAL-USE)")? {
        let Some((attributes, name)) =
            told.line.strip_prefix("* LIST (").and_then(|l| l.split_once(") \"/\" "))
        else {
            continue;
        };
        if attributes.contains("\\NonExistent") || attributes.contains("\\Noselect") {
            continue;
        }
        let mailbox = Mailbox {
            subscribed: attributes.contains("\\Subscribed"),
            special_use: attributes.split(' ').find(|a| *a == "\\Sent").unwrap_or_default().to_owned(),
            mails: Vec::new(),
        };
        boxes.insert(name.trim_matches('"').to_owned(), mailbox);
    }
    let names: Vec<String> = boxes.keys().cloned().collect();
    let mut decoded = BTreeMap::new();
    for name in names {
        client.ok(&format!("EXAMINE \"{name}\""))?;
        let mut mailbox = boxes.remove(&name).unwrap_or_default();
        for told in client.ok("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])")? {
            if let Some(mail) = read(&told.line, told.literals.last())? {
                mailbox.mails.push(mail);
            }
        }
        decoded.insert(name.replace("&APw-", "\u{fc}"), mailbox);
    }
    // A parent that was made for its child has nothing.
    decoded.retain(|name, mailbox| name == "INBOX" || !mailbox.mails.is_empty());
    Ok(decoded)
}

fn read(line: &str, text: Option<&Vec<u8>>) -> Result<Option<Mail>> {
    if !line.contains(" FETCH (") {
        return Ok(None);
    }
    let between = |start: &str, end: char| -> Result<&str> {
        let after = line.split_once(start).with_context(|| line.to_owned())?.1;
        Ok(after.split_once(end).with_context(|| line.to_owned())?.0)
    };
    let flags = between("FLAGS (", ')')?.split_ascii_whitespace().map(str::to_owned).collect();
    let text = text.with_context(|| format!("no text: {line}"))?.clone();
    let date = seconds(between("INTERNALDATE \"", '"')?)?;
    Ok(Some(Mail { start: String::new(), text, flags, date }))
}

/// `14-Nov-2023 22:13:20 +0000`, of November 2023.
fn seconds(date: &str) -> Result<i64> {
    let parts: Vec<&str> = date.trim_start().split(['-', ' ', ':']).collect();
    let [day, "Nov", "2023", hour, minute, second, "+0000"] = parts.as_slice() else {
        anyhow::bail!("{date} is not of the month that the messages are of");
    };
    let number = |text: &str| text.parse::<i64>().with_context(|| date.to_owned());
    // 2023-11-01T00:00:00Z
    let month = 1_698_796_800;
    Ok(month + (number(day)? - 1) * 86_400 + number(hour)? * 3600 + number(minute)? * 60 + number(second)?)
}

/// Listens on a port of its own, and leads to where the node is now.
pub struct Forwarder {
    port: u16,
    target: Arc<Mutex<SocketAddr>>,
}

impl Forwarder {
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let target = Arc::new(Mutex::new(target));
        let leads = Arc::clone(&target);
        thread::spawn(move || {
            for client in listener.incoming().filter_map(io::Result::ok) {
                let address = *leads.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(server) = TcpStream::connect(address) {
                    join(&client, &server);
                    join(&server, &client);
                }
            }
        });
        Ok(Self { port, target })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn leads_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }
}

fn join(from: &TcpStream, to: &TcpStream) {
    if let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) {
        thread::spawn(move || {
            let _until_it_ends = io::copy(&mut from, &mut to);
            let _gone = to.shutdown(Shutdown::Both);
            let _gone = from.shutdown(Shutdown::Both);
        });
    }
}
