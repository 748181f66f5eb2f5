//! Running a script: its state, its commands, and the strings that its variables make.

mod checks;
mod deliver;
mod fields;
mod header;
mod reply;
mod values;

use std::borrow::Cow;

use fields::Fields;

use crate::{
    Action, Capabilities, Capability, Context, Mail, Outcome, Planned, Position, RunError, Script, Seen,
    Skipped, flags, mailto,
    matcher::{Budget, Captures, Exhausted},
    program::{FlagChange, Modifier, Node, Step},
    text::{Piece, Text},
};

/// One run of a script.
pub struct Run<'a> {
    script: &'a Script,
    mail: &'a dyn Mail,
    fields: Fields<'a>,
    context: &'a Context<'a>,
    /// What was required, and what `ihave` has switched on.
    enabled: Capabilities,
    budget: Budget,
    variables: Vec<Variable>,
    captures: Captures,
    /// The captures are parts of the message.
    captured_mail: bool,
    flags: Vec<String>,
    plan: Vec<Planned>,
    implicit_keep: bool,
    /// `vacation` was reached.
    answered: bool,
    seen: Vec<Seen>,
    skipped: Vec<Skipped>,
    /// The command or test at hand.
    at: Position,
}

/// A variable's value, and whether parts of the message are in it.
#[derive(Debug, Clone, Default)]
struct Variable {
    value: Vec<u8>,
    of_mail: bool,
}

/// Why a run stops before its end.
#[derive(Debug)]
pub enum Stop {
    Done,
    Failed(String),
}

type Result<T> = std::result::Result<T, Stop>;

impl From<Exhausted> for Stop {
    fn from(Exhausted: Exhausted) -> Self {
        Self::Failed("the script does too much work for this message".to_owned())
    }
}

fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Stop::Failed(message.into()))
}

impl<'a> Run<'a> {
    pub fn new(script: &'a Script, mail: &'a dyn Mail, context: &'a Context<'a>) -> Self {
        Self {
            script,
            mail,
            fields: Fields::new(mail),
            context,
            enabled: script.required,
            budget: Budget::new(script.limits.work),
            variables: vec![Variable::default(); script.variables],
            captures: Captures::new(),
            captured_mail: false,
            flags: Vec::new(),
            plan: Vec::new(),
            implicit_keep: true,
            answered: false,
            seen: Vec::new(),
            skipped: Vec::new(),
            at: Position { line: 1, column: 1 },
        }
    }

    pub fn finish(mut self) -> Outcome {
        let result = self.block(&self.script.commands);
        let result = match result {
            Ok(()) | Err(Stop::Done) if self.implicit_keep => self.keep(None, self.flags.clone()),
            Ok(()) | Err(Stop::Done) => Ok(()),
            Err(failed) => Err(failed),
        };
        let work = self.script.limits.work - self.budget.left();
        let Err(Stop::Failed(message)) = result else {
            let Self { plan: actions, implicit_keep, seen, skipped, .. } = self;
            return Outcome { actions, implicit_keep, seen, skipped, error: None, work };
        };
        Outcome {
            actions: vec![Planned { at: None, action: Action::Keep { flags: Vec::new() } }],
            implicit_keep: true,
            seen: Vec::new(),
            skipped: Vec::new(),
            error: Some(RunError { at: self.at, message }),
            work,
        }
    }

    fn block(&mut self, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            self.enter(node.at, &node.guard)?;
            self.step(node)?;
        }
        Ok(())
    }

    /// Begins with a command or test: extensions that nobody has required must have been switched on.
    fn enter(&mut self, at: Position, guard: &[Capability]) -> Result<()> {
        self.at = at;
        self.budget.spend(crate::Limits::STEP)?;
        match guard.iter().find(|capability| !self.enabled.contains(**capability)) {
            None => Ok(()),
            Some(missing) => fail(format!("\"{0}\" is used before an ihave \"{0}\"", missing.name())),
        }
    }

    fn step(&mut self, node: &Node) -> Result<()> {
        match &node.step {
            Step::If(branches) => {
                for branch in branches {
                    let holds = match &branch.test {
                        Some(test) => self.check(test)?,
                        None => true,
                    };
                    if holds {
                        return self.block(&branch.block);
                    }
                }
                Ok(())
            }
            Step::Stop => Err(Stop::Done),
            Step::Set { variable, modifiers, value } => self.set(*variable, modifiers, value),
            Step::Flags { change, variable, flags } => self.change_flags(*change, *variable, flags),
            Step::Error(message) => {
                let message = self.bounded(message)?;
                fail(String::from_utf8_lossy(&message).into_owned())
            }
            Step::Missing(message) => fail(message),
            action => self.action(node.at, action),
        }
    }

    fn set(&mut self, variable: u16, modifiers: &[Modifier], text: &Text) -> Result<()> {
        let most = self.script.limits.variable;
        let mut value = Vec::new();
        self.expand(text, &mut value, self.script.limits.string)?;
        for modifier in modifiers {
            value = modify(*modifier, value);
        }
        cut(&mut value, most);
        let of_mail = self.of_mail(text);
        if let Some(slot) = self.variables.get_mut(usize::from(variable)) {
            *slot = Variable { value, of_mail };
        }
        Ok(())
    }

    fn change_flags(&mut self, change: FlagChange, variable: Option<u16>, words: &[Text]) -> Result<()> {
        let most = self.script.limits.flags;
        let mut set = match (change, variable) {
            (FlagChange::Set, _) => Vec::new(),
            (_, None) => std::mem::take(&mut self.flags),
            (_, Some(slot)) => {
                let mut set = Vec::new();
                flags::add(&mut set, self.value(slot), most);
                set
            }
        };
        let mut of_mail =
            variable.is_some_and(|slot| self.variables.get(usize::from(slot)).is_some_and(|v| v.of_mail));
        for text in words {
            of_mail |= self.of_mail(text);
            let words = self.bounded(text)?;
            match change {
                FlagChange::Remove => flags::remove(&mut set, &words),
                FlagChange::Set | FlagChange::Add => flags::add(&mut set, &words, most),
            }
        }
        match variable {
            None => self.flags = set,
            Some(slot) => {
                let mut value = set.join(" ").into_bytes();
                cut(&mut value, self.script.limits.variable);
                if let Some(slot) = self.variables.get_mut(usize::from(slot)) {
                    *slot = Variable { value, of_mail };
                }
            }
        }
        Ok(())
    }

    fn value(&self, slot: u16) -> &[u8] {
        self.variables.get(usize::from(slot)).map_or(&[], |variable| &variable.value)
    }

    /// Whether a string has parts of the message in it.
    fn of_mail(&self, text: &Text) -> bool {
        text.0.iter().any(|piece| match piece {
            Piece::Octets(_) => false,
            Piece::Variable(slot) => self.variables.get(usize::from(*slot)).is_some_and(|v| v.of_mail),
            Piece::Capture(_) => self.captured_mail,
        })
    }

    /// Puts variables in, up to `most` octets; the answer is whether all fit.
    fn expand(&mut self, text: &Text, into: &mut Vec<u8>, most: usize) -> Result<bool> {
        for piece in &text.0 {
            let octets = match piece {
                Piece::Octets(octets) => octets.as_slice(),
                Piece::Variable(slot) => self.variables.get(usize::from(*slot)).map_or(&[][..], |v| &v.value),
                Piece::Capture(index) => {
                    self.captures.get(usize::from(*index)).map_or(&[][..], Vec::as_slice)
                }
            };
            self.budget.spend(u64::try_from(octets.len()).unwrap_or(u64::MAX))?;
            into.extend_from_slice(octets);
            if into.len() > most {
                cut(into, most);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A string with its variables put in.
    fn bounded<'t>(&mut self, text: &'t Text) -> Result<Cow<'t, [u8]>> {
        if let Some(constant) = text.constant() {
            return Ok(constant.into());
        }
        let most = self.script.limits.string;
        let mut value = Vec::new();
        if self.expand(text, &mut value, most)? {
            return Ok(value.into());
        }
        fail(format!("a string becomes longer than {most} octets"))
    }

    /// A string that leaves the script: UTF-8, whatever the message had.
    fn string(&mut self, text: &Text) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bounded(text)?).into_owned())
    }

    fn skip(&mut self, at: Position, why: impl Into<String>) {
        self.skipped.push(Skipped { at, why: why.into() });
    }
}

/// Takes a value's end off, without splitting a character.
fn cut(value: &mut Vec<u8>, most: usize) {
    if value.len() > most {
        let boundary = (most.saturating_sub(3)..=most).rev().find(|end| value[*end] & 0xC0 != 0x80);
        value.truncate(boundary.unwrap_or(most));
    }
}

/// RFC 5229 section 4.1, RFC 5435 section 6
fn modify(modifier: Modifier, mut value: Vec<u8>) -> Vec<u8> {
    match modifier {
        Modifier::Lower => value.make_ascii_lowercase(),
        Modifier::Upper => value.make_ascii_uppercase(),
        Modifier::LowerFirst => value.iter_mut().take(1).for_each(|first| first.make_ascii_lowercase()),
        Modifier::UpperFirst => value.iter_mut().take(1).for_each(|first| first.make_ascii_uppercase()),
        Modifier::QuoteWildcard => {
            let quoted = value.into_iter().flat_map(|octet| {
                let backslash = b"*?\\".contains(&octet).then_some(b'\\');
                backslash.into_iter().chain([octet])
            });
            return quoted.collect();
        }
        Modifier::EncodeUrl => return mailto::encode(&value),
        Modifier::Length => {
            let characters = value.iter().filter(|octet| **octet & 0xC0 != 0x80).count();
            return characters.to_string().into_bytes();
        }
    }
    value
}
