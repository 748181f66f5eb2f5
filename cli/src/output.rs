//! What is printed: tables for people, JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

/// For whom to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

/// Prints a line. A reader that went away (`| head`) ends the program quietly.
pub fn line(text: &str) {
    raw(&format!("{}\n", printable(text)));
}

/// Prints text that is known to be harmless, as it is.
pub fn raw(text: &str) {
    if io::stdout().lock().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a line beside the answer, on standard error.
pub fn note(text: &str) {
    eprintln!("{}", printable(text));
}

/// Prints JSON.
pub fn json(value: &Value) {
    raw(&format!("{value:#}\n"));
}

/// Addresses and error texts come from the outside: nothing in them may move the terminal's cursor.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// Prints rows under a heading, columns aligned.
pub fn table(heading: &[&str], rows: &[Vec<String>]) {
    raw(&layout(heading, rows));
}

fn layout(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heading: Vec<String> = heading.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let cell = printable(cell).replace('\n', " ");
            format!("{cell:<width$}")
        });
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let rows = vec![vec!["a\u{1b}[2J".into(), "1".into()], vec!["longer\nname".into(), "2".into()]];
        let text = layout(&["NAME", "N"], &rows);
        assert_eq!(text, "NAME          N\na\u{fffd}[2J         1\nlonger name   2\n");
    }
}
