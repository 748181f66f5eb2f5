//! Debian's mail programs in a root of their own.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use mailcluster_lab::{Apt, Lock, Paths};

use crate::mortal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// What is unpacked, with all it depends on.
const PACKAGES: &[&str] = &[
    "dash",
    "coreutils",
    "swaks",
    "libnet-ssleay-perl",
    "isync",
    "neomutt",
    "fetchmail",
    "sieve-connect",
    "dovecot-lmtpd",
    "dovecot-imapd",
    "postfix",
    "procps",
    "ncurses-base",
    "python3",
    "python3-dkim",
    "python3-nacl",
];

/// A folder to chroot into.
#[derive(Debug, Clone)]
pub struct ClientRoot {
    root: PathBuf,
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// It ended with 0.
    pub success: bool,
    /// What it ended with; 124 when it took too long.
    pub code: Option<i32>,
    /// Standard output and standard error.
    pub output: String,
}

impl ClientRoot {
    /// Unpacks the packages once (about a minute) and keeps them in the cache folder.
    ///
    /// # Errors
    /// When a package cannot be had.
    pub fn ensure() -> Result<Self> {
        let paths = Paths::from_environment()?;
        let root = location(&paths);
        // Several tests may want it at once: the first one makes it for all.
        let _lock = Lock::part(&paths, "clients")?;
        if !root.is_dir() {
            eprintln!(
                "unpacking swaks, isync, neomutt, fetchmail, sieve-connect, dovecot and postfix into the cache (1-2 minutes, once)"
            );
            let work = paths.cache.join("clients-unpack");
            let _stale = fs::remove_dir_all(&work);
            let made = make(&paths, &work).and_then(|()| Ok(fs::rename(work.join("root"), &root)?));
            let _best_effort = fs::remove_dir_all(&work);
            made?;
        }
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Makes a folder inside the root that programs can use, and answers (path outside, path inside).
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self, name: &str) -> Result<(PathBuf, String)> {
        let inside = format!("/work/{name}-{}", std::process::id());
        let outside = self.root.join(inside.trim_start_matches('/'));
        let _stale = fs::remove_dir_all(&outside);
        fs::create_dir_all(&outside)?;
        Ok((outside, inside))
    }

    /// A command inside the root, which ends with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = mortal("chroot");
        command.arg(&self.root).arg(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin").env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a shell line inside the root on a terminal of its own, for at most `seconds`; answers what it drew.
    ///
    /// # Errors
    /// When there is no terminal to be had or it cannot be started.
    pub fn terminal(&self, line: &str, seconds: u32) -> Result<String> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let end = || {
            fs::OpenOptions::new().read(true).write(true).open(Path::new(OsStr::from_bytes(name.as_bytes())))
        };
        let mut child = Command::new("timeout")
            .args(["--foreground", &seconds.to_string(), "setsid", "--ctty", "chroot"])
            .arg(&self.root)
            .args(["/bin/sh", "-c", line])
            .env_clear()
            .envs([
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("HOME", "/root"),
                ("TERM", "xterm"),
                ("LC_ALL", "C.UTF-8"),
            ])
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()
            .context("failed to start chroot: are you root?")?;
        let mut master = fs::File::from(master);
        let drawn = std::thread::spawn(move || {
            let (mut drawn, mut part) = (Vec::new(), [0; 4096]);
            // Reading fails when the other end is closed.
            while let Ok(count @ 1..) = std::io::Read::read(&mut master, &mut part) {
                drawn.extend_from_slice(&part[..count]);
            }
            drawn
        });
        child.wait()?;
        let drawn = drawn.join().map_err(|_| anyhow::anyhow!("the terminal's reader panicked"))?;
        Ok(String::from_utf8_lossy(&drawn).into_owned())
    }

    /// Runs a shell line inside the root, with this standard input, for at most `seconds`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn shell(&self, line: &str, input: &[u8], seconds: u32) -> Result<Ran> {
        let mut child = Command::new("timeout")
            .arg(seconds.to_string())
            .arg("chroot")
            .arg(&self.root)
            .args(["/bin/sh", "-c", &format!("{line} 2>&1")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start chroot: are you root?")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input may be gone already.
            let _closed = stdin.write_all(input);
        }
        let output = child.wait_with_output()?;
        Ok(Ran {
            success: output.status.success(),
            code: output.status.code(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
        })
    }
}

/// Where the root is, or will be.
pub(crate) fn location(paths: &Paths) -> PathBuf {
    paths.cache.join("clients-6")
}

fn make(paths: &Paths, work: &Path) -> Result<()> {
    let root = work.join("root");
    fs::create_dir_all(root.join("usr"))?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for name in ["etc", "tmp", "work", "root", "dev", "proc", "run", "var/lib", "var/log"] {
        fs::create_dir_all(root.join(name))?;
    }
    download(paths, work)?;
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let line = format!(
                "dpkg-deb --fsys-tarfile '{}' | tar -x --keep-directory-symlink -C '{}'",
                path.display(),
                root.display()
            );
            run(Command::new("sh").args(["-c", &line]))?;
        }
    }
    furnish(&root)
}

fn download(paths: &Paths, work: &Path) -> Result<()> {
    Apt::with(paths, |apt| {
        let names = closure(apt, work)?;
        run(Command::new("apt-get")
            .arg("-q")
            .args(apt.options())
            .arg("download")
            .args(names)
            .current_dir(work))
    })
}

/// The packages and all they depend on, as if nothing were installed.
fn closure(apt: &Apt, work: &Path) -> Result<Vec<String>> {
    let empty = work.join("no-status");
    fs::write(&empty, "")?;
    let output = Command::new("apt-get")
        .args(apt.options())
        .args(["-o", &format!("Dir::State::status={}", empty.display())])
        .args(["-o", "APT::Install-Recommends=false", "--print-uris", "-y", "install"])
        .args(PACKAGES)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let files =
        text.lines().filter_map(|line| line.strip_prefix('\'')?.split('\'').next()?.rsplit('/').next());
    let names: Vec<String> =
        files.filter_map(|file| file.split('_').next()).map(|name| name.replace("%2b", "+")).collect();
    if names.len() < PACKAGES.len() {
        bail!("apt-get knows no packages: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(names)
}

/// What maintainer scripts would have made, as far as these programs need it.
fn furnish(root: &Path) -> Result<()> {
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\ndovecot:x:101:101::/:/bin/false\ndovenull:x:102:102::/:/bin/false\n\
         vmail:x:5000:5000::/work:/bin/false\npostfix:x:110:110::/:/bin/false\n\
         nobody:x:65534:65534::/:/bin/false\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\ndovecot:x:101:\ndovenull:x:102:\nvmail:x:5000:\n\
         postfix:x:110:\npostdrop:x:111:\nnogroup:x:65534:\n",
    )?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")?;
    for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("random", 1, 8), ("urandom", 1, 9)] {
        let node = root.join("dev").join(name);
        run(Command::new("mknod").args(["-m", "666"]).arg(node).args([
            "c",
            &format!("{major}"),
            &format!("{minor}"),
        ]))?;
    }
    run(Command::new("chmod").arg("1777").arg(root.join("tmp")))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
