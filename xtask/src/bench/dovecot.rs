//! Debian's dovecot-lmtpd as a peer: Maildir, `mail_fsync=always`.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use mailcluster_interop::{ClientRoot, wait_until};
use mailcluster_test_clients::SmtpClient;
use rustix::process::{Pid, Signal, kill_process};

/// A running dovecot; it ends and its mail goes when dropped.
pub struct Dovecot {
    child: Child,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Dovecot {
    /// Starts it inside the root with its mail on the same disk as the root.
    pub fn start(root: &ClientRoot) -> Result<Self> {
        let (folder, inside) = root.scratch("dovecot")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = format!(
            "base_dir = {inside}/run\nstate_dir = {inside}/state\nlog_path = {inside}/log\nprotocols = lmtp\n\
             mail_location = maildir:{inside}/mail/%n\nmail_fsync = always\nmail_uid = 5000\nmail_gid = 5000\n\
             first_valid_uid = 0\nssl = no\npassdb {{\n driver = static\n args = nopassword=y\n}}\n\
             userdb {{\n driver = static\n args = uid=5000 gid=5000 home={inside}/mail/%n allow_all_users=yes\n}}\n\
             service lmtp {{\n process_min_avail = 4\n process_limit = 200\n client_limit = 1\n inet_listener lmtp {{\n address = 127.0.0.1\n port = {port}\n }}\n}}\n\
             service anvil {{\n chroot =\n}}\ndefault_process_limit = 200\ndefault_client_limit = 4000\n\
             default_internal_user = dovecot\ndefault_login_user = dovenull\n"
        );
        fs::write(folder.join("dovecot.conf"), config)?;
        fs::create_dir_all(folder.join("mail"))?;
        fs::create_dir_all(folder.join("run"))?;
        let owned = Command::new("chown").args(["-R", "5000:5000"]).arg(folder.join("mail")).status()?;
        anyhow::ensure!(owned.success(), "chown");
        let child = root
            .command("/usr/sbin/dovecot")
            .args(["-F", "-c", &format!("{inside}/dovecot.conf")])
            .stdin(Stdio::null())
            .spawn()
            .context("dovecot")?;
        let dovecot = Self { child, addr, folder };
        wait_until("dovecot answers", Duration::from_secs(20), || {
            SmtpClient::lmtp(addr, Duration::from_secs(2)).is_ok()
        })
        .with_context(|| fs::read_to_string(dovecot.folder.join("log")).unwrap_or_default())?;
        Ok(dovecot)
    }

    /// Where its LMTP listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _gone = kill_process(pid, Signal::TERM);
        }
        let _reaped = self.child.wait();
        let _best_effort = fs::remove_dir_all(&self.folder);
    }
}
