//! From commands as they are written to commands that are understood. Everything that can be known without a message is
//! checked here, also in blocks that may never be reached.

mod actions;
mod args;
mod checks;
mod matching;

pub use actions::header_is_ascii;
use args::{Args, Tag, no_tests};
pub use checks::has_addresses;

use crate::{
    Capabilities, Capability, CompileError, Limits, Position, Warning,
    program::{Branch, Node, Step},
    syntax::{Call, Command, Literal, Tests},
    text::{Names, Text},
};

/// Compiles one script.
pub struct Compiler<'a> {
    offered: Capabilities,
    required: Capabilities,
    pub limits: &'a Limits,
    pub names: Names,
    /// Extensions that the command or test at hand uses and that were not required: `ihave` may switch them on.
    guard: Vec<Capability>,
    pub warnings: Vec<Warning>,
}

type Result<T> = std::result::Result<T, CompileError>;

impl<'a> Compiler<'a> {
    pub fn new(offered: Capabilities, limits: &'a Limits) -> Self {
        let (required, names) = (Capabilities::NONE, Names::default());
        Self { offered, required, limits, names, guard: Vec::new(), warnings: Vec::new() }
    }

    /// `require` first, then all else.
    pub fn script(&mut self, commands: &[Command]) -> Result<Vec<Node>> {
        let first =
            commands.iter().position(|command| command.call.name != "require").unwrap_or(commands.len());
        let (requires, rest) = commands.split_at(first);
        for require in requires {
            self.require(require)?;
        }
        self.block(rest)
    }

    pub fn capabilities(&self) -> Capabilities {
        self.required
    }

    fn require(&mut self, command: &Command) -> Result<()> {
        let mut args = self.action(command)?;
        for literal in args.strings("the names of extensions, such as \"fileinto\"")? {
            self.required = self.required.with(self.known(literal)?);
        }
        if self.required.contains(Capability::VacationSeconds) {
            self.required = self.required.with(Capability::Vacation);
        }
        args.end()
    }

    /// The capability that a string names.
    fn known(&self, literal: &Literal) -> Result<Capability> {
        let name = String::from_utf8_lossy(&literal.octets);
        let known = Capability::from_name(&literal.octets).filter(|found| self.offered.contains(*found));
        known.ok_or_else(|| {
            let message = match &*name {
                "include" => {
                    "there is no \"include\" here: put the other script's commands into this one".to_owned()
                }
                _ => format!("there is no extension \"{name}\" here: take it out, and what uses it"),
            };
            CompileError::missing(literal.at, message)
        })
    }

    /// Whether a script has required a capability.
    pub fn required(&self, capability: Capability) -> bool {
        self.required.contains(capability)
    }

    /// Asks for a capability on behalf of `what`.
    fn need(&mut self, capability: Capability, at: Position, what: &str) -> Result<()> {
        if self.required.contains(capability) {
            return Ok(());
        }
        let deferred = self.offered.contains(capability) && !capability.changes_strings();
        if self.required.contains(Capability::Ihave) && deferred {
            self.guard.push(capability);
            return Ok(());
        }
        let name = capability.name();
        let message = if self.offered.contains(capability) {
            format!("{what} needs \"{name}\": put require \"{name}\"; at the beginning of the script")
        } else {
            format!("there is no {what} here: the extension \"{name}\" is missing")
        };
        Err(CompileError::missing(at, message))
    }

    /// In a script with `ihave`, what an extension is missing for fails when it is reached, and not before.
    fn deferred(&self, error: CompileError) -> Result<String> {
        if error.missing && self.required.contains(Capability::Ihave) {
            Ok(error.message)
        } else {
            Err(error)
        }
    }

    fn warn(&mut self, at: Position, message: impl Into<String>) {
        // One of each kind is enough of a hint, and scripts can be long.
        const MOST: usize = 50;
        if self.warnings.len() < MOST {
            self.warnings.push(Warning { at, message: message.into() });
        }
    }

    fn block(&mut self, commands: &[Command]) -> Result<Vec<Node>> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut open = false;
        let mut ended = false;
        for command in commands {
            let (name, at) = (command.call.name.as_str(), command.call.at);
            if ended {
                self.warn(at, "what follows a stop is never done");
                ended = false;
            }
            if let "elsif" | "else" = name {
                let branch = self.branch(command)?;
                let Some(Step::If(branches)) = nodes.last_mut().map(|node| &mut node.step).filter(|_| open)
                else {
                    let message = format!("{name} must follow the block of an if or elsif");
                    return Err(CompileError::new(at, message));
                };
                open = branch.test.is_some();
                branches.push(branch);
                continue;
            }
            open = name == "if";
            let outer = std::mem::take(&mut self.guard);
            let step = self.step(command).or_else(|error| self.deferred(error).map(Step::Missing));
            let guard = std::mem::replace(&mut self.guard, outer);
            let step = step?;
            ended = step == Step::Stop;
            nodes.push(Node { at, guard, step });
        }
        Ok(nodes)
    }

    fn branch(&mut self, command: &Command) -> Result<Branch> {
        let Call { name, at, .. } = &command.call;
        let args = Args::new(&command.call);
        let test = match (&command.call.tests, name.as_str()) {
            (Tests::None, "else") => None,
            (_, "else") => return no_tests(&command.call).map(|()| Branch { test: None, block: Vec::new() }),
            (Tests::One(test), _) => Some(self.check(test)?),
            (Tests::List(tests), _) => {
                let at = tests.first().map_or(*at, |test| test.at);
                let message = format!("{name} takes one test: put allof or anyof before the list");
                return Err(CompileError::new(at, message));
            }
            (Tests::None, _) => return Err(CompileError::new(*at, format!("{name} needs a test"))),
        };
        args.end()?;
        let Some(block) = &command.block else {
            return Err(CompileError::new(*at, format!("{name} needs a block in {{ }}, and no ; before it")));
        };
        Ok(Branch { test, block: self.block(block)? })
    }

    /// The arguments of a command that has neither tests nor a block.
    fn action<'c>(&self, command: &'c Command) -> Result<Args<'c>> {
        no_tests(&command.call)?;
        if command.block.is_some() {
            let message = format!("{} takes no block: end it with a ;", command.call.name);
            return Err(CompileError::new(command.call.at, message));
        }
        Ok(Args::new(&command.call))
    }

    fn step(&mut self, command: &Command) -> Result<Step> {
        let (name, at) = (command.call.name.as_str(), command.call.at);
        match name {
            "if" => return Ok(Step::If(vec![self.branch(command)?])),
            "require" => {
                return Err(CompileError::new(at, "require must stand at the beginning of the script"));
            }
            _ => {}
        }
        if !actions::NAMES.contains(&name) {
            return Err(unknown_command(&command.call));
        }
        let mut args = self.action(command)?;
        let step = self.named_action(&mut args)?;
        args.end()?;
        Ok(step)
    }

    fn texts(&mut self, literals: &[Literal]) -> Result<Vec<Text>> {
        literals.iter().map(|literal| self.text(literal)).collect()
    }

    /// A string that may have no variables in it.
    fn constant(&mut self, literal: &Literal, what: &str) -> Result<Vec<u8>> {
        let text = self.text(literal)?;
        text.constant().map(<[u8]>::to_vec).ok_or_else(|| {
            CompileError::new(literal.at, format!("{what} cannot have variables in it: write it out"))
        })
    }
}

/// A tag that a command or test does not have, or not without an extension that is not known here.
fn unknown_tag(name: &str, tag: Tag<'_>) -> CompileError {
    CompileError::missing(tag.at, format!("{name} has no :{}", tag.name))
}

fn unknown_command(call: &Call) -> CompileError {
    let name = &call.name;
    let message = match name.as_str() {
        "include" | "return" | "global" => {
            format!("there is no {name} here: put the other script's commands into this one")
        }
        name if checks::NAMES.contains(&name) => format!("{name} is a test: it goes into an if"),
        _ => format!("there is no command \"{name}\""),
    };
    CompileError::missing(call.at, message)
}
