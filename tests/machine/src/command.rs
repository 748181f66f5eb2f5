//! Running other programs: errors that carry the command line and what it wrote.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command to run to its end, with its words kept for error messages.
pub struct Cmd {
    inner: Command,
    words: Vec<OsString>,
    input: Option<Vec<u8>>,
}

impl Cmd {
    /// A command named as in a shell: looked up in PATH unless it contains a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let words = vec![program.as_ref().to_owned()];
        Self { inner: Command::new(program), words, input: None }
    }

    /// Splits `line` at spaces: for commands whose words contain none.
    pub fn line(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut command = Self::new(words.next().unwrap_or_default());
        for word in words {
            command = command.arg(word);
        }
        command
    }

    /// Adds a word.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.words.push(arg.as_ref().to_owned());
        self.inner.arg(arg);
        self
    }

    /// Adds words.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(self, args: I) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(key, value);
        self
    }

    /// Takes away what would lead a client of Kubernetes to another cluster than the one it is told of.
    pub fn without_ambient(mut self) -> Self {
        for (name, _) in std::env::vars_os().filter(|(name, _)| leads_astray(name)) {
            self.inner.env_remove(name);
        }
        self
    }

    /// Runs it in this folder.
    pub fn directory(mut self, path: &Path) -> Self {
        self.inner.current_dir(path);
        self
    }

    /// Writes this to its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// The command itself, to be started in another way.
    pub fn into_inner(self) -> Command {
        self.inner
    }

    fn shown(&self) -> String {
        self.words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn finish(mut self) -> Result<(Output, String)> {
        let shown = self.shown();
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = self
            .inner
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start `{shown}`"))?;
        let input = self.input.take();
        let writer = child.stdin.take().zip(input);
        // Written beside the reading, so that neither side can fill its pipe and wait for the other.
        let writer = writer.map(|(mut pipe, bytes)| std::thread::spawn(move || pipe.write_all(&bytes)));
        let output = child.wait_with_output().with_context(|| format!("failed to wait for `{shown}`"))?;
        if let Some(writer) = writer {
            let _closed_early = writer.join();
        }
        Ok((output, shown))
    }

    /// Runs it; an exit code other than 0 is an error with what the program said.
    pub fn run(self) -> Result<()> {
        self.output().map(|_| ())
    }

    /// Runs it and returns what it wrote to standard output.
    pub fn output(self) -> Result<String> {
        let (output, shown) = self.finish()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{shown}` failed ({}): {}{}", output.status, said.trim(), tail(&text));
        }
        Ok(text)
    }

    /// Whether it ended with exit code 0.
    pub fn succeeds(self) -> bool {
        self.finish().is_ok_and(|(output, _)| output.status.success())
    }

    /// Runs it with the terminal's own output, for builds that show their progress.
    pub fn run_shown(mut self) -> Result<()> {
        let shown = self.shown();
        let status = self.inner.stdin(Stdio::null()).stdout(std::io::stderr()).status();
        let status = status.with_context(|| format!("failed to start `{shown}`"))?;
        if !status.success() {
            bail!("`{shown}` failed ({status})");
        }
        Ok(())
    }
}

/// helm's variables win over its kubeconfig; a proxy stands between anyone and the lab.
fn leads_astray(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    name.starts_with("HELM_") || name.starts_with("KUBE") || proxies.contains(&name.as_str())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(10);
    if lines.is_empty() { String::new() } else { format!("\n{}", lines[from..].join("\n")) }
}

/// Whether a program of that name is in PATH.
#[must_use]
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_of_one_cluster_only() {
        for (name, taken_away) in [
            ("HELM_KUBEAPISERVER", true),
            ("HELM_NAMESPACE", true),
            ("KUBECONFIG", true),
            ("KUBERC", true),
            ("KUBERNETES_SERVICE_HOST", true),
            ("https_proxy", true),
            ("PATH", false),
            ("HOME", false),
            ("NO_PROXY", false),
        ] {
            assert_eq!(leads_astray(OsStr::new(name)), taken_away, "{name}");
        }
    }
}
