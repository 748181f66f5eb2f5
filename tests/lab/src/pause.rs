//! The image of the process that holds a pod's namespaces: a few lines of C, compiled once.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache_key::cache_key;
use crate::command::Cmd;
use crate::oci_archive::{OciImage, Source};
use crate::paths::Paths;

/// The image's name in every node.
pub(crate) const IMAGE: &str = "localhost/pause:1";

const SOURCE: &str = r"
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int s) { _exit(0); }
static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) {
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
";

/// Where the archive is, or will be.
pub fn location(paths: &Paths) -> PathBuf {
    paths.cache.join("images").join(format!("pause-{}.tar", cache_key(&[SOURCE.as_bytes()])))
}

/// Compiles a static C program.
pub(crate) fn compile_static(source: &str, binary: &std::path::Path) -> Result<()> {
    let text = binary.with_extension("c");
    fs::write(&text, source)?;
    let result = Cmd::line("gcc -static -O2 -w -o").arg(binary).arg(&text).run();
    let _best_effort = fs::remove_file(&text);
    result.context("failed to compile a static C program (is gcc with its static libc installed?)")
}

/// Makes the archive when the cache lacks it.
pub(crate) fn ensure(paths: &Paths) -> Result<PathBuf> {
    let archive = location(paths);
    if archive.is_file() {
        return Ok(archive);
    }
    let folder = paths.cache.join("images");
    fs::create_dir_all(&folder)?;
    let binary = folder.join(format!("pause-{}", std::process::id()));
    compile_static(SOURCE, &binary)?;
    let result = OciImage::new(IMAGE, &["/pause"])
        .user("65535:65535")
        .file("/pause", Source::File(binary.clone()), 0o755)
        .write(&archive);
    fs::remove_file(&binary)?;
    result.map(|()| archive)
}
