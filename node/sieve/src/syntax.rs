//! The grammar (RFC 5228 section 8.2): commands, tests and arguments, before anybody asks what they mean.

use crate::{
    CompileError, Limits, Position,
    lexer::{Kind, Lexer, Token},
};

/// `command = identifier arguments (";" / block)`
#[derive(Debug)]
pub struct Command {
    pub call: Call,
    pub block: Option<Vec<Command>>,
}

/// An identifier with its arguments: what a command and a test have in common.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub at: Position,
    pub arguments: Vec<Argument>,
    pub tests: Tests,
}

/// `[ test / test-list ]`
#[derive(Debug)]
pub enum Tests {
    None,
    One(Box<Call>),
    List(Vec<Call>),
}

/// `argument = string-list / number / tag`
#[derive(Debug)]
pub struct Argument {
    pub at: Position,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    Tag(String),
    Number(u64),
    Text(Literal),
    List(Vec<Literal>),
}

/// A string as it was written, its quotes and dots undone.
#[derive(Debug)]
pub struct Literal {
    pub at: Position,
    pub octets: Vec<u8>,
}

/// Reads a whole script.
pub fn parse(script: &[u8], limits: &Limits) -> Result<Vec<Command>, CompileError> {
    let start = Position { line: 1, column: 1 };
    if script.len() > limits.script {
        let message = format!("the script has more than {} octets: make it shorter", limits.script);
        return Err(CompileError::new(start, message));
    }
    let mut lexer = Lexer::new(script);
    let next = lexer.next()?;
    let mut parser = Parser { lexer, next, items: limits.items, depth: limits.nesting };
    let commands = parser.commands()?;
    match parser.next.kind {
        Kind::End => Ok(commands),
        _ => Err(CompileError::new(parser.next.at, "there is no block that this } would close")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    next: Token,
    items: usize,
    depth: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Token, CompileError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn is(&self, punctuation: u8) -> bool {
        self.next.kind == Kind::Punctuation(punctuation)
    }

    fn count(&mut self) -> Result<(), CompileError> {
        self.items = self.items.checked_sub(1).ok_or_else(|| {
            CompileError::new(
                self.next.at,
                "the script has too many commands, tests and strings: make it shorter",
            )
        })?;
        Ok(())
    }

    /// Runs `inner` one level deeper.
    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, CompileError>,
    ) -> Result<T, CompileError> {
        let too_deep = CompileError::new(self.next.at, "blocks or tests are nested too deeply here");
        self.depth = self.depth.checked_sub(1).ok_or(too_deep)?;
        let result = inner(self);
        self.depth += 1;
        result
    }

    /// `commands = *command`
    fn commands(&mut self) -> Result<Vec<Command>, CompileError> {
        let mut commands = Vec::new();
        loop {
            match &self.next.kind {
                Kind::End | Kind::Punctuation(b'}') => return Ok(commands),
                Kind::Identifier(_) => commands.push(self.command()?),
                _ => {
                    return Err(CompileError::new(self.next.at, "a command is expected here, such as keep;"));
                }
            }
        }
    }

    fn command(&mut self) -> Result<Command, CompileError> {
        let call = self.call()?;
        if self.is(b';') {
            self.advance()?;
            return Ok(Command { call, block: None });
        }
        if !self.is(b'{') {
            let message = format!("\"{}\" is not complete: a ; or a block is expected here", call.name);
            return Err(CompileError::new(self.next.at, message));
        }
        let open = self.advance()?.at;
        let block = self.nested(Self::commands)?;
        if !self.is(b'}') {
            return Err(CompileError::new(open, "this block does not end: close it with }"));
        }
        self.advance()?;
        Ok(Command { call, block: Some(block) })
    }

    /// `identifier arguments`, with `arguments = *argument [ test / test-list ]`
    fn call(&mut self) -> Result<Call, CompileError> {
        self.count()?;
        let Token { at, kind: Kind::Identifier(name) } = self.advance()? else {
            return Err(CompileError::new(self.next.at, "a name is expected here"));
        };
        let mut arguments = Vec::new();
        while let Some(argument) = self.argument()? {
            arguments.push(argument);
        }
        let tests = match self.next.kind {
            Kind::Identifier(_) => Tests::One(Box::new(self.nested(Self::call)?)),
            Kind::Punctuation(b'(') => Tests::List(self.nested(Self::test_list)?),
            _ => Tests::None,
        };
        Ok(Call { name, at, arguments, tests })
    }

    fn argument(&mut self) -> Result<Option<Argument>, CompileError> {
        let at = self.next.at;
        let value = match self.next.kind {
            Kind::Tag(_) | Kind::Number(_) | Kind::Text(_) => match self.advance()?.kind {
                Kind::Tag(name) => Value::Tag(name),
                Kind::Number(number) => Value::Number(number),
                Kind::Text(octets) => {
                    self.count()?;
                    Value::Text(Literal { at, octets })
                }
                _ => return Ok(None),
            },
            Kind::Punctuation(b'[') => Value::List(self.list()?),
            _ => return Ok(None),
        };
        Ok(Some(Argument { at, value }))
    }

    /// `"[" string *("," string) "]"`
    fn list(&mut self) -> Result<Vec<Literal>, CompileError> {
        let mut strings = Vec::new();
        loop {
            self.advance()?;
            self.count()?;
            let at = self.next.at;
            let Kind::Text(_) = self.next.kind else {
                return Err(CompileError::new(at, "a string in double quotes is expected in this list"));
            };
            if let Kind::Text(octets) = self.advance()?.kind {
                strings.push(Literal { at, octets });
            }
            if self.is(b']') {
                self.advance()?;
                return Ok(strings);
            }
            if !self.is(b',') {
                return Err(CompileError::new(self.next.at, "a , or ] is expected in this list of strings"));
            }
        }
    }

    /// `"(" test *("," test) ")"`
    fn test_list(&mut self) -> Result<Vec<Call>, CompileError> {
        let mut tests = Vec::new();
        loop {
            self.advance()?;
            let Kind::Identifier(_) = self.next.kind else {
                return Err(CompileError::new(self.next.at, "a test is expected here"));
            };
            tests.push(self.call()?);
            if self.is(b')') {
                self.advance()?;
                return Ok(tests);
            }
            if !self.is(b',') {
                return Err(CompileError::new(self.next.at, "a , or ) is expected in this list of tests"));
            }
        }
    }
}
