//! `mailcluster-node store …`: reading a store that no server has open.

use std::io::Write;

use anyhow::Result;
use mailcluster_store::tools;

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
        StoreTool::Export { dir, out: folder } => {
            let done = tools::export_maildir(&dir, &folder, &mut |progress, damaged| {
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
