//! `mailcluster-node store …`: reading a store that no server has open.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use mailcluster_store::{left_behind, tools};

use crate::args::StoreTool;

/// Runs one tool.
pub fn run(tool: StoreTool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match tool {
        StoreTool::Ls { dir, account, mailbox } => {
            let path = [account, mailbox].into_iter().flatten().collect::<Vec<_>>().join("/");
            tools::list(&dir, &path, &mut out)?;
        }
        StoreTool::Cat { dir, account, mailbox, uid } => {
            tools::cat(&dir, &format!("{account}/{mailbox}/{uid}"), &mut out)?;
        }
        StoreTool::Fsck { dir, compare_in } => {
            let mut tell = |what: &str| println!("{what}");
            let done = tools::fsck(&dir, compare_in.as_deref(), &mut tell)?;
            let tools::Checked { segments, packs, batches, messages, problems } = done;
            writeln!(
                out,
                "{segments} segments, {packs} packs, {batches} batches, {messages} messages: {problems} problems"
            )?;
            anyhow::ensure!(
                problems == 0,
                "the store is damaged: restore it, or save what can be read with `mailcluster-node store export`"
            );
        }
        StoreTool::Salvage { dir, after, out: file } => salvage(&dir, after, &file, &mut out)?,
        StoreTool::Export { dir, out: folder, expunged } => {
            let expunged = if expunged { tools::Expunged::Too } else { tools::Expunged::LeftOut };
            let done = tools::export(&dir, &folder, expunged, &mut |progress, damaged| {
                if let Some(line) = damaged {
                    eprintln!("{line}");
                }
                eprint!("\r{progress:?}");
            })?;
            eprintln!();
            writeln!(out, "{done:?}")?;
        }
    }
    out.flush()?;
    Ok(())
}

fn salvage(dir: &Path, after: (u64, u64), file: &Path, stdout: &mut dyn Write) -> Result<()> {
    let mut tell = |progress: &left_behind::Gathered, damaged: Option<&str>| {
        if let Some(line) = damaged {
            eprintln!("{line}");
        }
        eprint!("\r{} items, {} octets of text", progress.items, progress.octets);
    };
    let done = if file.as_os_str() == "-" {
        left_behind::gather(dir, after, stdout, &mut tell)?
    } else {
        let named = || file.display().to_string();
        let mut out = BufWriter::new(File::create_new(file).with_context(named)?);
        let done = left_behind::gather(dir, after, &mut out, &mut tell).with_context(named)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(named)?.sync_all()?;
        done
    };
    let left_behind::Gathered { items, octets, damaged } = done;
    eprintln!("\r{items} items, {octets} octets of text; {damaged} texts are damaged and left out");
    Ok(())
}
