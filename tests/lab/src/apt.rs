//! Debian packages by apt, the host's own lists and caches unchanged.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::step;

/// Which package lists apt looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// Those of the host, as they are.
    Host,
    /// Those in the cache, fetched for us.
    Own,
}

/// How apt is called: what it writes goes into the cache folder.
#[derive(Clone, Debug)]
pub struct Apt {
    folder: PathBuf,
    lists: Lists,
}

impl Apt {
    /// Does `work` with the host's package lists and, when that fails (a list is missing or too old), once more with
    /// fresh ones of our own.
    ///
    /// # Errors
    /// As `work` the second time, or when no lists can be had.
    pub fn with(paths: &Paths, work: impl Fn(&Self) -> Result<()>) -> Result<()> {
        let folder = paths.cache.join("apt");
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let host = Self { folder, lists: Lists::Host };
        if work(&host).is_ok() {
            return Ok(());
        }
        step("fetching package lists into the cache (apt-get update)");
        let own = Self { lists: Lists::Own, ..host };
        Cmd::line("apt-get -q")
            .args(own.options())
            .arg("update")
            .run()
            .context("failed to fetch package lists")?;
        work(&own)
    }

    /// The options that every call of `apt-get` and `apt-cache` gets.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let folder = self.folder.display();
        let mut options = vec!["APT::Sandbox::User=root".to_owned(), format!("Dir::Cache={folder}")];
        if self.lists == Lists::Own {
            options.push(format!("Dir::State::Lists={folder}/lists"));
        }
        options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_apt_writes_goes_into_the_cache() {
        let options = |lists| Apt { folder: PathBuf::from("/cache/apt"), lists }.options().join(" ");
        assert_eq!(options(Lists::Host), "-o APT::Sandbox::User=root -o Dir::Cache=/cache/apt");
        assert_eq!(
            options(Lists::Own),
            "-o APT::Sandbox::User=root -o Dir::Cache=/cache/apt -o Dir::State::Lists=/cache/apt/lists"
        );
    }

    #[test]
    fn the_hosts_lists_are_enough_when_the_work_succeeds() {
        let folder = std::env::temp_dir().join(format!("mailcluster-apt-{}", std::process::id()));
        let paths = Paths::in_cache(&folder).unwrap();
        let seen = Mutex::new(Vec::new());
        let done = Apt::with(&paths, |apt| {
            seen.lock().unwrap().push(apt.lists);
            Ok(())
        });
        fs::remove_dir_all(folder).unwrap();
        done.unwrap();
        assert_eq!(*seen.lock().unwrap(), [Lists::Host]);
    }
}
