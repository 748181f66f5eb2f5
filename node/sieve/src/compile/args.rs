//! Arguments of commands and tests, taken one after the other.

use crate::{
    CompileError, Position,
    syntax::{Argument, Call, Literal, Tests, Value},
};

/// What is left of a call's arguments.
pub struct Args<'a> {
    pub name: &'a str,
    pub at: Position,
    rest: std::slice::Iter<'a, Argument>,
    seen: Vec<&'a str>,
}

/// A tag; what follows it is taken from the arguments.
#[derive(Clone, Copy)]
pub struct Tag<'a> {
    pub name: &'a str,
    pub at: Position,
}

impl<'a> Args<'a> {
    pub fn new(call: &'a Call) -> Self {
        Self { name: &call.name, at: call.at, rest: call.arguments.iter(), seen: Vec::new() }
    }

    /// The next argument, if it is a tag. Each tag may be given once.
    pub fn tag(&mut self) -> Result<Option<Tag<'a>>, CompileError> {
        let Some(Argument { at, value: Value::Tag(name) }) = self.rest.as_slice().first() else {
            return Ok(None);
        };
        self.rest.next();
        if self.seen.contains(&name.as_str()) {
            return Err(CompileError::new(*at, format!("{} has :{name} twice: leave one out", self.name)));
        }
        self.seen.push(name);
        Ok(Some(Tag { name, at: *at }))
    }

    /// How many arguments are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn next(&mut self, what: &str) -> Result<&'a Argument, CompileError> {
        self.rest.next().ok_or_else(|| {
            CompileError::new(self.at, format!("{} is not complete: it needs {what}", self.name))
        })
    }

    fn wrong(&self, argument: &Argument, what: &str) -> CompileError {
        let message = match argument.value {
            Value::Tag(_) => format!("tags stand before all else: {} expects {what} here", self.name),
            _ => format!("{} expects {what} here", self.name),
        };
        CompileError::new(argument.at, message)
    }

    pub fn string(&mut self, what: &str) -> Result<&'a Literal, CompileError> {
        let argument = self.next(what)?;
        match &argument.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong(argument, what)),
        }
    }

    /// A list of strings, or one alone.
    pub fn strings(&mut self, what: &str) -> Result<&'a [Literal], CompileError> {
        let argument = self.next(what)?;
        match &argument.value {
            Value::Text(text) => Ok(std::slice::from_ref(text)),
            Value::List(list) => Ok(list),
            _ => Err(self.wrong(argument, what)),
        }
    }

    pub fn number(&mut self, what: &str) -> Result<u64, CompileError> {
        let argument = self.next(what)?;
        match argument.value {
            Value::Number(number) => Ok(number),
            _ => Err(self.wrong(argument, what)),
        }
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), CompileError> {
        match self.rest.as_slice().first() {
            None => Ok(()),
            Some(argument) => {
                let message = match &argument.value {
                    Value::Tag(name) => format!("tags stand before all else: move :{name} to the front"),
                    _ => format!("{} takes no more arguments", self.name),
                };
                Err(CompileError::new(argument.at, message))
            }
        }
    }
}

/// Refuses tests where there can be none.
pub fn no_tests(call: &Call) -> Result<(), CompileError> {
    let at = match &call.tests {
        Tests::None => return Ok(()),
        Tests::One(test) => test.at,
        Tests::List(tests) => tests.first().map_or(call.at, |test| test.at),
    };
    Err(CompileError::new(at, format!("{} takes no tests: is there a ; missing before this?", call.name)))
}
