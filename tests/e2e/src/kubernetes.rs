//! The Kubernetes under a mail cluster: the lab's, or one of somebody's own.

use std::{
    ffi::OsString,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use mailcluster_lab::Lab;

use crate::own::OwnCluster;

/// The Kubernetes that a cluster runs on.
#[derive(Debug)]
pub enum Kubernetes {
    /// The lab's, with its faults.
    Lab(Lab),
    /// Somebody's, with none.
    Own(OwnCluster),
}

impl From<Lab> for Kubernetes {
    fn from(lab: Lab) -> Self {
        Self::Lab(lab)
    }
}

impl Kubernetes {
    /// The one that a test was started for: an own cluster that its environment names, else the lab that is up.
    ///
    /// # Errors
    /// When there is neither.
    pub fn of_test() -> Result<Self> {
        match OwnCluster::from_environment() {
            Some(own) => Ok(Self::Own(own)),
            None => Lab::attach().map(Self::Lab),
        }
    }

    /// The lab.
    ///
    /// # Errors
    /// When it is a cluster of somebody's: nobody breaks that for a test.
    pub fn lab(&self) -> Result<&Lab> {
        match self {
            Self::Lab(lab) => Ok(lab),
            Self::Own(own) => bail!("this needs the lab, and context {} is none", own.context),
        }
    }

    /// Lets the lab go on after this program; somebody's cluster does so anyway.
    pub fn release(&mut self) {
        if let Self::Lab(lab) = self {
            lab.release();
        }
    }

    /// Runs `kubectl` as the administrator and returns what it wrote.
    ///
    /// # Errors
    /// When it fails; the message has what it said.
    pub fn kubectl<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        match self {
            Self::Lab(lab) => lab.kubectl(args),
            Self::Own(own) => output(own.kubectl().args(args.iter().map(AsRef::as_ref)), ""),
        }
    }

    /// Runs `kubectl` with that standard input.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        match self {
            Self::Lab(lab) => lab.kubectl_with_input(args, input),
            Self::Own(own) => output(own.kubectl().args(args), input),
        }
    }

    /// Applies a manifest, JSON or YAML, by server-side apply.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let words = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.kubectl_with_input(&words, manifest).map(drop)
    }

    /// Runs `helm` as the administrator and returns what it wrote.
    ///
    /// # Errors
    /// When it fails; the message has what it said.
    pub fn helm<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        match self {
            Self::Lab(lab) => lab.helm(args),
            Self::Own(own) => output(own.helm().args(args.iter().map(AsRef::as_ref)), ""),
        }
    }

    /// How the admin command is told which cluster it is.
    #[must_use]
    pub fn admin_arguments(&self) -> Vec<OsString> {
        match self {
            Self::Lab(lab) => vec!["--kubeconfig".into(), lab.kubeconfig().into()],
            Self::Own(own) => vec![
                "--kubeconfig".into(),
                own.kubeconfig.clone().into(),
                "--context".into(),
                own.context.clone().into(),
            ],
        }
    }
}

/// Runs a command with this standard input; what it wrote, or an error with what it said.
pub(crate) fn output(command: &mut Command, input: &str) -> Result<String> {
    let named = || command_line(command);
    let line = named();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(
            || format!("failed to start {}: is it in PATH?", line.split(' ').next().unwrap_or("it")),
        )?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why itself.
        let _closed = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
