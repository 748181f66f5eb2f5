//! The logs of pods as their nodes have written them: also those of a node that is cut off from the API.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::site::Site;

/// A line that a pod logged.
#[derive(Debug, Clone)]
pub struct Line {
    /// Milliseconds since 1970, by the lab's one clock.
    pub at: i64,
    /// What it says.
    pub message: String,
    /// Everything that stands in it.
    pub fields: Value,
}

impl Line {
    /// A number that stands in the line.
    #[must_use]
    pub fn number(&self, field: &str) -> Option<i64> {
        self.fields[field].as_i64()
    }

    /// Does it tell of this epoch?
    #[must_use]
    pub fn is_of(&self, epoch: u64) -> bool {
        self.fields["epoch"].as_u64() == Some(epoch)
    }
}

impl Site {
    /// What all containers of all pods of this name, which this node has had and whose logs it still has, have written;
    /// the oldest first.
    ///
    /// # Errors
    /// When the node's folder cannot be read.
    pub fn pod_log(&self, node: &str, pod: &str) -> Result<Vec<Line>> {
        let folder = self.lab()?.paths().lab.join("nodes").join(node).join("varlog/pods");
        let ours = format!("{}_{pod}_", self.namespace);
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(&ours) {
                continue;
            }
            for container in std::fs::read_dir(entry.path())? {
                for file in std::fs::read_dir(container?.path())? {
                    let text = std::fs::read(file?.path())?;
                    lines.extend(String::from_utf8_lossy(&text).lines().filter_map(parse));
                }
            }
        }
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }
}

/// A line of a container's log: time, stream, flag, and what the program wrote. What is no JSON is left out.
fn parse(line: &str) -> Option<Line> {
    let written = line.splitn(4, ' ').nth(3)?;
    let fields: Value = serde_json::from_str(written).ok()?;
    let at: jiff::Timestamp = fields["timestamp"].as_str()?.parse().ok()?;
    Some(Line { at: at.as_millisecond(), message: fields["message"].as_str()?.to_owned(), fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_a_foreign_one_left_out() {
        let line = parse(
            r#"2026-01-01T00:00:01.5Z stderr F {"timestamp":"2026-01-01T00:00:01.250Z","message":"serving","epoch":3}"#,
        )
        .unwrap();
        assert_eq!(
            (line.message.as_str(), line.number("epoch"), line.at % 10_000),
            ("serving", Some(3), 1250)
        );
        assert!(parse("2026-01-01T00:00:01.5Z stderr F panicked").is_none());
    }
}
