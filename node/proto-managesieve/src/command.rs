//! Commands (RFC 5804 section 2).

use std::fmt;

use bytes::Bytes;

use crate::decoder::Token;

/// A password or SASL response: not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a client asks for. That names are fit for scripts is for who keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// AUTHENTICATE, with the first response, as it was sent.
    Authenticate {
        /// In upper case.
        mechanism: String,
        /// In base 64.
        initial: Option<Secret>,
    },
    /// STARTTLS
    StartTls,
    /// LOGOUT
    Logout,
    /// CAPABILITY
    Capability,
    /// HAVESPACE
    HaveSpace {
        /// Of the script.
        name: String,
        /// Its octets.
        size: u64,
    },
    /// PUTSCRIPT
    PutScript {
        /// Its name.
        name: String,
        /// Its text.
        script: Bytes,
    },
    /// CHECKSCRIPT
    CheckScript(Bytes),
    /// LISTSCRIPTS
    ListScripts,
    /// SETACTIVE; `None` for the empty name.
    SetActive(Option<String>),
    /// GETSCRIPT
    GetScript(String),
    /// DELETESCRIPT
    DeleteScript(String),
    /// RENAMESCRIPT
    RenameScript {
        /// Its name.
        from: String,
        /// Its new one.
        to: String,
    },
    /// NOOP, with the text to be told back.
    Noop(Option<Bytes>),
    /// UNAUTHENTICATE
    Unauthenticate,
}

/// What is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It does not follow the grammar.
    #[error("{0}")]
    Syntax(&'static str),
    /// No command has this name.
    #[error("unknown command")]
    Unknown,
    /// Not its arguments.
    #[error("wrong arguments")]
    Arguments,
    /// A literal is larger than is taken.
    #[error("too large")]
    TooLarge,
    /// Names are UTF-8.
    #[error("names are UTF-8")]
    NotUtf8,
}

/// Reads a line's tokens.
pub fn parse(tokens: Vec<Token>) -> Result<Command, CommandError> {
    let mut tokens = tokens.into_iter();
    let name = match tokens.next() {
        Some(Token::Atom(name)) => name.to_ascii_uppercase(),
        Some(_) => return Err(CommandError::Syntax("a line begins with a command")),
        None => return Err(CommandError::Syntax("an empty line")),
    };
    let arguments: Vec<Token> = tokens.collect();
    if arguments.contains(&Token::TooLarge) {
        return Err(CommandError::TooLarge);
    }
    match name.as_str() {
        "AUTHENTICATE" => authenticate(arguments),
        "STARTTLS" => none(&arguments, Command::StartTls),
        "LOGOUT" => none(&arguments, Command::Logout),
        "CAPABILITY" => none(&arguments, Command::Capability),
        "LISTSCRIPTS" => none(&arguments, Command::ListScripts),
        "UNAUTHENTICATE" => none(&arguments, Command::Unauthenticate),
        "HAVESPACE" => have_space(arguments),
        "PUTSCRIPT" => {
            let [name, script] = texts(arguments)?;
            Ok(Command::PutScript { name: utf8(&name)?, script })
        }
        "CHECKSCRIPT" => texts(arguments).map(|[script]| Command::CheckScript(script)),
        "SETACTIVE" => {
            let [name] = texts(arguments)?;
            let name = utf8(&name)?;
            Ok(Command::SetActive((!name.is_empty()).then_some(name)))
        }
        "GETSCRIPT" => texts(arguments).and_then(|[name]| utf8(&name)).map(Command::GetScript),
        "DELETESCRIPT" => texts(arguments).and_then(|[name]| utf8(&name)).map(Command::DeleteScript),
        "RENAMESCRIPT" => {
            let [from, to] = texts(arguments)?;
            Ok(Command::RenameScript { from: utf8(&from)?, to: utf8(&to)? })
        }
        "NOOP" if arguments.is_empty() => Ok(Command::Noop(None)),
        "NOOP" => texts(arguments).map(|[text]| Command::Noop(Some(text))),
        _ => Err(CommandError::Unknown),
    }
}

fn none(arguments: &[Token], command: Command) -> Result<Command, CommandError> {
    if arguments.is_empty() { Ok(command) } else { Err(CommandError::Arguments) }
}

/// Strings alone, and as many.
fn texts<const N: usize>(arguments: Vec<Token>) -> Result<[Bytes; N], CommandError> {
    let text = |token| match token {
        Token::Text(text) => Ok(text),
        Token::Atom(_) | Token::TooLarge => Err(CommandError::Arguments),
    };
    let texts = arguments.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    texts.try_into().map_err(|_| CommandError::Arguments)
}

fn utf8(text: &Bytes) -> Result<String, CommandError> {
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| CommandError::NotUtf8)
}

fn authenticate(arguments: Vec<Token>) -> Result<Command, CommandError> {
    let (mechanism, initial) = match arguments.len() {
        1 => texts(arguments).map(|[mechanism]| (mechanism, None))?,
        _ => texts(arguments).map(|[mechanism, initial]| (mechanism, Some(Secret(initial))))?,
    };
    Ok(Command::Authenticate { mechanism: utf8(&mechanism)?.to_ascii_uppercase(), initial })
}

fn have_space(arguments: Vec<Token>) -> Result<Command, CommandError> {
    match <[Token; 2]>::try_from(arguments) {
        Ok([Token::Text(name), Token::Atom(size)]) if size.bytes().all(|b| b.is_ascii_digit()) => {
            let size = size.parse().map_err(|_| CommandError::Arguments)?;
            Ok(Command::HaveSpace { name: utf8(&name)?, size })
        }
        _ => Err(CommandError::Arguments),
    }
}
