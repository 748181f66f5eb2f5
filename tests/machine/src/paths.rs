//! Where the lab keeps its files: everything cached outside the checkout, everything running in one folder.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// The cache folder (kept between runs) and the lab's own (emptied by `down`, but for its logs).
#[derive(Clone, Debug)]
pub struct Paths {
    /// `$MAILCLUSTER_CACHE`, else `$XDG_CACHE_HOME/mailcluster`, else `~/.cache/mailcluster`.
    pub cache: PathBuf,
    /// The running lab: `lab` in the cache folder.
    pub lab: PathBuf,
}

/// The environment's name for this lab, where several run side by side.
pub const NAME_VARIABLE: &str = "MAILCLUSTER_LAB";
const DEFAULT: &str = "lab";
/// What everything of a lab on this machine begins with. Whatever name is chosen, a cgroup, interface or namespace of
/// someone else's is never taken for the lab's.
pub const PREFIX: &str = "mcl-";

fn checked(name: &str) -> Result<String> {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    match name {
        "" => Ok(DEFAULT.to_owned()),
        // An interface's name has little room.
        _ if plain && name.len() <= 8 => Ok(name.to_owned()),
        _ => bail!("{NAME_VARIABLE}={name:?} is no lab's name: use 1 to 8 lower-case letters and digits"),
    }
}

/// The name of this lab, by the environment.
pub fn lab_name() -> Result<&'static str> {
    static NAME: OnceLock<Result<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| checked(&std::env::var(NAME_VARIABLE).unwrap_or_default()));
    name.as_ref().map(String::as_str).map_err(|error| anyhow!("{error}"))
}

/// What all that this lab makes is called after.
pub fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    // Nothing gets here with a bad name: there are no `Paths` for one.
    INSTANCE.get_or_init(|| format!("{PREFIX}{}", lab_name().unwrap_or_default()))
}

impl Paths {
    /// The paths by the environment.
    ///
    /// # Errors
    /// No home directory is known, the folder lies where a node has a file system of its own, or the lab's name
    /// (`$MAILCLUSTER_LAB`) is not one.
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
    /// The folder is relative or lies where a node has a file system of its own, or the lab's name is not one.
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
        let folder = match lab_name()? {
            DEFAULT => DEFAULT.to_owned(),
            name => format!("{DEFAULT}-{name}"),
        };
        Ok(Self { cache: cache.to_owned(), lab: cache.join(folder) })
    }

    /// The log of a program of the lab.
    pub fn log(&self, name: &str) -> PathBuf {
        self.lab.join("log").join(format!("{name}.log"))
    }

    /// A node's folder.
    pub fn node(&self, node: &str) -> PathBuf {
        self.lab.join("nodes").join(node)
    }

    /// The folder of keys and certificates.
    pub fn pki(&self) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_refused_and_not_taken_for_another_labs() {
        for (name, taken) in [
            ("", Some("lab")),
            ("lab", Some("lab")),
            ("labx", Some("labx")),
            ("12345678", Some("12345678")),
            ("123456789", None),
            ("My-Lab", None),
            ("a/b", None),
            (" ", None),
        ] {
            assert_eq!(checked(name).ok().as_deref(), taken, "{name:?}");
        }
    }
}
