//! A script, ready to be run any number of times.

use crate::{
    Capabilities, CompileError, Context, Limits, Mail, Outcome, Warning, compile::Compiler, program::Node,
    run::Run, syntax,
};

/// A compiled script.
#[derive(Debug, Clone)]
pub struct Script {
    pub(crate) commands: Vec<Node>,
    pub(crate) required: Capabilities,
    pub(crate) variables: usize,
    pub(crate) limits: Limits,
    warnings: Vec<Warning>,
}

impl Script {
    /// Compiles a script with the extensions that a site offers. The limits go with it into its runs.
    pub fn compile(script: &[u8], offered: &Capabilities, limits: &Limits) -> Result<Self, CompileError> {
        let parsed = syntax::parse(script, limits)?;
        let mut compiler = Compiler::new(*offered, limits);
        let commands = compiler.script(&parsed)?;
        let (required, variables) = (compiler.capabilities(), compiler.names.len());
        Ok(Self { commands, required, variables, limits: *limits, warnings: compiler.warnings })
    }

    /// What is allowed and probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The capabilities that the script has required.
    #[must_use]
    pub fn required(&self) -> Capabilities {
        self.required
    }

    /// Runs it over a message. There is always an outcome: a script that fails keeps the message.
    #[must_use]
    pub fn run(&self, mail: &dyn Mail, context: &Context<'_>) -> Outcome {
        Run::new(self, mail, context).finish()
    }
}
