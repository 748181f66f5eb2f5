//! `mailcluster-node store …`: reading a store that no server has open.

mod told;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use mailcluster_store::{left_behind, tools};

use crate::args::StoreTool;
use told::Teller;

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
            let mut teller = Teller::new();
            let mut tell = |at: &tools::Checked, found: Option<&str>| {
                if let Some(line) = found {
                    println!("{line}");
                }
                teller.reached(|| told::checking(at));
            };
            let done = tools::fsck(&dir, compare_in.as_deref(), &mut tell)?;
            writeln!(out, "{}", told::checked(&done))?;
            anyhow::ensure!(
                done.problems == 0,
                "the store is damaged: restore it, or save what can be read with `mailcluster-node store export`"
            );
        }
        StoreTool::Salvage { dir, after, out: file } => salvage(&dir, after, &file, &mut out)?,
        StoreTool::Export { dir, out: folder, expunged } => {
            let expunged = if expunged { tools::Expunged::Too } else { tools::Expunged::LeftOut };
            let mut teller = Teller::new();
            let done = tools::export(&dir, &folder, expunged, &mut |at, damaged| {
                told::say(damaged);
                teller.reached(|| told::exporting(at));
            })?;
            writeln!(out, "{}", told::exported(&done))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn salvage(dir: &Path, after: (u64, u64), file: &Path, stdout: &mut dyn Write) -> Result<()> {
    let mut teller = Teller::new();
    let mut tell = |at: &left_behind::Gathered, damaged: Option<&str>| {
        told::say(damaged);
        teller.reached(|| told::gathering(at));
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
    eprintln!("{}", told::gathered(&done));
    Ok(())
}
