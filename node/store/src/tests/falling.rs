//! A disk under which power is lost at some step.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use crate::disk::{Disk, LogFile, RealDisk};

/// From that step on nothing is done. What was done to folders before it and not synced can be taken back.
#[derive(Clone)]
pub struct Falling(Arc<Mutex<Fall>>);

struct Fall {
    /// Steps until then; `None`: never.
    left: Option<usize>,
    undo: Vec<(PathBuf, PathBuf)>,
    /// What was removed or replaced is kept here.
    graves: TempDir,
    buried: usize,
}

impl Default for Falling {
    fn default() -> Self {
        let graves = tempfile::tempdir().unwrap();
        Self(Arc::new(Mutex::new(Fall { left: None, undo: Vec::new(), graves, buried: 0 })))
    }
}

impl Falling {
    /// Power is lost after so many further steps.
    pub fn fall_after(&self, steps: usize) {
        self.0.lock().unwrap().left = Some(steps);
    }

    fn step(&self) -> io::Result<()> {
        match &mut self.0.lock().unwrap().left {
            Some(0) => Err(io::Error::other("power is lost")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes back what no sync has made sure of: a rename back, in the opposite order.
    pub fn take_back(&self) {
        let undo = std::mem::take(&mut self.0.lock().unwrap().undo);
        for (from, to) in undo.into_iter().rev() {
            fs::rename(to, from).unwrap();
        }
    }
}

impl Disk for Falling {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.step()?;
        Ok(Box::new(FallingFile(self.clone(), RealDisk.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.step()?;
        Ok(Box::new(FallingFile(self.clone(), RealDisk.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        if to.exists() {
            // What was there has its name back when this is taken back.
            let grave = self.grave(to);
            fs::copy(to, &grave)?;
            RealDisk.rename(from, to)?;
            let mut fall = self.0.lock().unwrap();
            fall.undo.extend([(to.to_owned(), grave), (from.to_owned(), to.to_owned())]);
            return Ok(());
        }
        RealDisk.rename(from, to)?;
        self.0.lock().unwrap().undo.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let grave = self.grave(path);
        RealDisk.rename(path, &grave)?;
        self.0.lock().unwrap().undo.push((path.to_owned(), grave));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let touches = |p: &PathBuf| p.parent() == Some(path);
        self.0.lock().unwrap().undo.retain(|(from, to)| !touches(from) && !touches(to));
        Ok(())
    }
}

impl Falling {
    fn grave(&self, of: &Path) -> PathBuf {
        let mut fall = self.0.lock().unwrap();
        fall.buried += 1;
        let name = of.file_name().unwrap().to_str().unwrap();
        fall.graves.path().join(format!("{} {name}", fall.buried))
    }
}

struct FallingFile(Falling, Box<dyn LogFile>);

impl LogFile for FallingFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.step()?;
        self.1.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.step()?;
        self.1.sync()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.step()?;
        self.1.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.0.step()?;
        self.1.allocate(len)
    }
}
