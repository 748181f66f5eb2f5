//! A Postfix from Debian, as the other site.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rcgen::generate_simple_self_signed;

use crate::{ClientRoot, wait_until};

/// Who it runs as, as the client root's passwd has it.
const POSTFIX: u32 = 110;
const POSTDROP: u32 = 111;
const VMAIL: u32 = 5000;
/// What Postfix asks of the folders of its queue.
const QUEUE: &[(&str, u32)] = &[
    ("active", 0o700),
    ("bounce", 0o700),
    ("corrupt", 0o700),
    ("defer", 0o700),
    ("deferred", 0o700),
    ("flush", 0o700),
    ("hold", 0o700),
    ("incoming", 0o700),
    ("private", 0o700),
    ("saved", 0o700),
    ("trace", 0o700),
    ("maildrop", 0o730),
    ("public", 0o710),
];
const SERVICES: &str = "cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
";

/// It takes mail for `joe@elsewhere.test` (also by a name in UTF-8), and gives all other mail to a port on loopback.
pub struct Postfix {
    master: Child,
    outside: PathBuf,
    addr: SocketAddr,
}

/// What it shows in TLS handshakes, of the name `mx.elsewhere.test`.
pub struct SiteCertificate {
    cert: String,
    key: String,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub sha256: String,
}

impl SiteCertificate {
    /// A new one, by nobody known.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make() -> Result<Self> {
        let made = generate_simple_self_signed(["mx.elsewhere.test".to_owned()])?;
        let hash = ring::digest::digest(&ring::digest::SHA256, made.cert.der());
        let sha256 = hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem(), sha256 })
    }
}

impl Postfix {
    /// Starts it at `addr`; mail for others goes to `relay`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(root: &ClientRoot, name: &str, addr: SocketAddr, relay: SocketAddr) -> Result<Self> {
        Self::start_so(root, name, (addr, relay), (&SiteCertificate::make()?, ""))
    }

    /// The same with this certificate, and these further lines of its main.cf, which count instead of those before.
    ///
    /// # Errors
    /// The same.
    pub fn start_so(
        root: &ClientRoot,
        name: &str,
        (addr, relay): (SocketAddr, SocketAddr),
        (certificate, more): (&SiteCertificate, &str),
    ) -> Result<Self> {
        let (outside, inside) = root.scratch(name)?;
        furnish(&outside, certificate)?;
        fs::write(outside.join("main.cf"), settings(&inside, relay) + more)?;
        fs::write(outside.join("master.cf"), format!("{addr} inet n - n - - smtpd\n{SERVICES}"))?;
        let mut command = root.command("/usr/lib/postfix/sbin/master");
        command.args(["-c", &inside, "-d"]).stdout(Stdio::null()).stderr(Stdio::null());
        let master = command.spawn().context("failed to start chroot: are you root?")?;
        let started = Self { master, outside, addr };
        let up = || TcpStream::connect(addr).is_ok();
        wait_until("postfix listens", Duration::from_secs(30), up).with_context(|| started.log())?;
        Ok(started)
    }

    /// A port that nobody listens at.
    ///
    /// # Errors
    /// When there is none.
    pub fn free_addr() -> Result<SocketAddr> {
        Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has written down.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.outside.join("mail.log")).unwrap_or_default()
    }

    /// Joe's messages.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn inbox(&self) -> Result<Vec<String>> {
        let Ok(folder) = fs::read_dir(self.outside.join("mail/joe/new")) else { return Ok(Vec::new()) };
        let read = |entry: std::io::Result<fs::DirEntry>| -> Result<String> {
            Ok(String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned())
        };
        folder.map(read).collect()
    }
}

impl Drop for Postfix {
    /// Its master ends its children when it is asked to end.
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.master.id().to_string()).status();
        if asked.is_err() {
            let _gone = self.master.kill();
        }
        let _gone = self.master.wait();
        let _best_effort = fs::remove_dir_all(&self.outside);
    }
}

fn furnish(folder: &Path, certificate: &SiteCertificate) -> Result<()> {
    for name in ["queue/pid", "data", "mail"] {
        fs::create_dir_all(folder.join(name))?;
    }
    for (name, mode) in QUEUE {
        let path = folder.join("queue").join(name);
        fs::create_dir_all(&path)?;
        let group = if mode & 0o070 == 0 { None } else { Some(POSTDROP) };
        chown(&path, Some(POSTFIX), group)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    chown(folder.join("data"), Some(POSTFIX), None)?;
    chown(folder.join("mail"), Some(VMAIL), Some(VMAIL))?;
    fs::write(folder.join("cert.pem"), &certificate.cert)?;
    fs::write(folder.join("key.pem"), &certificate.key)?;
    ensure!(folder.join("key.pem").is_file());
    Ok(())
}

fn settings(inside: &str, relay: SocketAddr) -> String {
    let (host, port) = (relay.ip(), relay.port());
    format!(
        "compatibility_level = 3.6
queue_directory = {inside}/queue
data_directory = {inside}/data
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.elsewhere.test
mydestination =
mynetworks = 127.0.0.0/8
local_transport = error:none
alias_maps =
inet_protocols = ipv4
virtual_mailbox_domains = inline:{{elsewhere.test=ok}}
virtual_mailbox_maps = inline:{{{{joe@elsewhere.test=joe/}}, {{j\u{f6}rg@elsewhere.test=joe/}}}}
virtual_mailbox_base = {inside}/mail
virtual_uid_maps = static:{VMAIL}
virtual_gid_maps = static:{VMAIL}
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_chain_files = {inside}/key.pem, {inside}/cert.pem
smtp_tls_security_level = may
default_transport = smtp:[{host}]:{port}
maillog_file = {inside}/mail.log
maillog_file_prefixes = /work
"
    )
}
