//! The logs of all pods of a run, those of pods that are gone by its end among them: linked while they are there.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use mailcluster_lab::Lab;

/// Where they are kept.
#[derive(Debug)]
pub(super) struct Kept {
    nodes: PathBuf,
    folder: PathBuf,
}

impl Kept {
    /// An empty folder for them, within the lab's: a link cannot lead out of its mount.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let root = lab.paths().lab.clone();
        let folder = root.join("log").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self { nodes: root.join("nodes"), folder })
    }

    /// Links those that are not yet.
    pub fn link(&self) -> Result<()> {
        for node in fs::read_dir(&self.nodes)? {
            let node = node?;
            let pods = node.path().join("varlog/pods");
            if pods.is_dir() {
                link_all(&pods, &self.folder.join(node.file_name()))?;
            }
        }
        Ok(())
    }

    /// Copies them to where they stay when the lab goes; answers that folder.
    pub fn save(&self, to: &Path) -> Result<PathBuf> {
        self.link()?;
        copy_all(&self.folder, to)?;
        Ok(to.to_owned())
    }
}

fn link_all(from: &Path, to: &Path) -> Result<()> {
    each(from, to, &|file, target| {
        let Some(target) = place(file, target)? else { return Ok(()) };
        match fs::hard_link(file, &target) {
            // Its pod has gone in this instant.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| target.display().to_string()),
        }
    })
}

/// Where a log is to be linked; nowhere when it is already. A kubelet gives one that has become large another name, begins a
/// new one under the first, and compresses the old one when that is large too: by then it has been linked.
fn place(file: &Path, target: &Path) -> Result<Option<PathBuf>> {
    let (folder, name) = (target.parent().context("no folder")?, target.file_name().context("no name")?);
    let inode = match fs::metadata(file) {
        Ok(found) => found.ino(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    if file.extension().is_some_and(|ending| ending == "gz") {
        return Ok(None);
    }
    for there in fs::read_dir(folder)? {
        if there?.metadata()?.ino() == inode {
            return Ok(None);
        }
    }
    let next = || folder.join(format!("{}.{inode}", name.display()));
    Ok(Some(if target.exists() { next() } else { target.to_owned() }))
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    each(from, to, &|file, target| {
        fs::copy(file, target).map(drop).with_context(|| target.display().to_string())
    })
}

type Act<'a> = &'a dyn Fn(&Path, &Path) -> Result<()>;

fn each(from: &Path, to: &Path, act: Act<'_>) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            each(&path, &target, act)?;
        } else if path.is_file() {
            act(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_begun_anew_is_kept_beside_the_old_one_once() {
        let root = std::env::temp_dir().join(format!("mailcluster-rotated-{}", std::process::id()));
        let folder = root.join("nodes/node1/varlog/pods/mail_x/node");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("0.log"), "one\n").unwrap();
        let kept = Kept { nodes: root.join("nodes"), folder: root.join("log/kept") };
        kept.link().unwrap();
        fs::rename(folder.join("0.log"), folder.join("0.log.20260101-000000")).unwrap();
        fs::write(folder.join("0.log"), "two\n").unwrap();
        fs::write(folder.join("0.log.20251231-000000.gz"), "packed").unwrap();
        kept.link().unwrap();
        let saved = kept.save(&root.join("saved")).unwrap().join("node1/mail_x/node");
        let texts =
            fs::read_dir(&saved).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let mut texts: Vec<_> = texts.collect();
        texts.sort();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(texts, ["one\n", "two\n"]);
    }

    #[test]
    fn what_is_gone_at_the_end_was_kept() {
        let root = std::env::temp_dir().join(format!("mailcluster-kept-{}", std::process::id()));
        let log = root.join("nodes/node1/varlog/pods/mail_x/node/0.log");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, "one\n").unwrap();
        let kept = Kept { nodes: root.join("nodes"), folder: root.join("log/kept") };
        kept.link().unwrap();
        fs::remove_dir_all(root.join("nodes/node1/varlog/pods/mail_x")).unwrap();
        let saved = kept.save(&root.join("saved")).unwrap();
        let text = fs::read_to_string(saved.join("node1/mail_x/node/0.log")).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(text, "one\n");
    }
}
