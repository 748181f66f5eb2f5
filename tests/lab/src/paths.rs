//! Where the lab keeps its files: everything cached outside the checkout, everything running in one folder.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use ring::digest;

/// The cache folder (kept between runs) and the lab's own (emptied by `down`, but for its logs).
#[derive(Clone, Debug)]
pub struct Paths {
    /// `$MAILCLUSTER_CACHE`, else `$XDG_CACHE_HOME/mailcluster`, else `~/.cache/mailcluster`.
    pub cache: PathBuf,
    /// The running lab: `lab` in the cache folder.
    pub lab: PathBuf,
}

const DEFAULT: &str = "mclab";

/// The name of this lab, and of all it makes: several may run side by side, told apart by `$MAILCLUSTER_LAB`, at
/// most 8 letters and digits (an interface's name has little room).
pub(crate) fn instance() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::env::var("MAILCLUSTER_LAB").unwrap_or_default();
        let fits = (1..=8).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if fits { name } else { DEFAULT.to_owned() }
    })
}

impl Paths {
    /// The paths by the environment.
    ///
    /// # Errors
    /// No home directory is known, or the folder lies where a node has a file system of its own.
    pub fn from_environment() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("MAILCLUSTER_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("mailcluster")))
            .or_else(|| set("HOME").map(|path| path.join(".cache/mailcluster")))
            .context("neither MAILCLUSTER_CACHE nor HOME is set: where may the lab keep its files?")?;
        Self::in_cache(&cache)
    }

    /// The paths in a given cache folder.
    ///
    /// # Errors
    /// The folder is relative or lies where a node has a file system of its own.
    pub fn in_cache(cache: &Path) -> Result<Self> {
        if !cache.is_absolute() {
            bail!("the cache folder {} must be an absolute path", cache.display());
        }
        // These are replaced inside a node, so what a node needs must not lie in them.
        for hidden in ["/run", "/var/run", "/var/lib", "/var/log", "/proc"] {
            if cache.starts_with(hidden) {
                bail!(
                    "the lab cannot work in {}: set MAILCLUSTER_CACHE to a folder outside {hidden}",
                    cache.display()
                );
            }
        }
        let folder = if instance() == DEFAULT { "lab".to_owned() } else { format!("lab-{}", instance()) };
        Ok(Self { cache: cache.to_owned(), lab: cache.join(folder) })
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.lab.join("log").join(format!("{name}.log"))
    }

    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.lab.join("nodes").join(node)
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.lab.join("pki")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.lab.join("kubeconfig")
    }

    /// The API server's audit log (level Metadata), one JSON event a line; `audit2.log` is the second server's.
    pub fn audit_log(&self, server: usize) -> PathBuf {
        self.lab.join("log").join(if server <= 1 {
            "audit.log".to_owned()
        } else {
            format!("audit{server}.log")
        })
    }
}

/// The first 16 hexadecimal digits of the SHA-256 over the parts, each with its length.
pub(crate) fn cache_key(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    hex(context.finish().as_ref())[..16].to_owned()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
