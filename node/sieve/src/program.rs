//! A script that was understood: what the interpreter walks.

use crate::{
    Capability, Position,
    address::AddressPart,
    matcher::{Matcher, Relation},
    text::Text,
};

/// A command, and the extensions that it needs and that only `ihave` can have switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub at: Position,
    pub guard: Vec<Capability>,
    pub step: Step,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    If(Vec<Branch>),
    Stop,
    Keep {
        flags: Option<Vec<Text>>,
    },
    FileInto {
        mailbox: Text,
        id: Option<Text>,
        flags: Option<Vec<Text>>,
        copy: bool,
        create: bool,
    },
    Redirect {
        address: Text,
        copy: bool,
    },
    Discard,
    Reject {
        reason: Text,
        in_protocol: bool,
    },
    Vacation(Box<Vacation>),
    Notify(Box<Notify>),
    Set {
        variable: u16,
        modifiers: Vec<Modifier>,
        value: Text,
    },
    Flags {
        change: FlagChange,
        variable: Option<u16>,
        flags: Vec<Text>,
    },
    /// `error`
    Error(Text),
    /// A command of an extension that is missing, in a script with `ihave`.
    Missing(String),
}

/// `if`, `elsif` or, without a test, `else`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub test: Option<Check>,
    pub block: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacation {
    pub seconds: Option<u64>,
    pub subject: Option<Text>,
    pub from: Option<Text>,
    pub addresses: Vec<Text>,
    pub mime: bool,
    pub track: Vec<u8>,
    pub reason: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    pub from: Option<Text>,
    pub importance: Option<Text>,
    pub options: Vec<Text>,
    pub message: Option<Text>,
    pub method: Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagChange {
    Set,
    Add,
    Remove,
}

/// Modifiers of `set`, in the order that they are applied in (RFC 5229 section 4.1, RFC 5435 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Modifier {
    Lower,
    Upper,
    LowerFirst,
    UpperFirst,
    QuoteWildcard,
    EncodeUrl,
    Length,
}

impl Modifier {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "lowerfirst" => Self::LowerFirst,
            "upperfirst" => Self::UpperFirst,
            "quotewildcard" => Self::QuoteWildcard,
            "encodeurl" => Self::EncodeUrl,
            "length" => Self::Length,
            _ => return None,
        })
    }

    /// Two of the same precedence contradict each other.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Lower | Self::Upper => 40,
            Self::LowerFirst | Self::UpperFirst => 30,
            Self::QuoteWildcard => 20,
            Self::EncodeUrl => 15,
            Self::Length => 10,
        }
    }
}

/// A test, and the extensions that it needs and that only `ihave` can have switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub at: Position,
    pub guard: Vec<Capability>,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    Constant(bool),
    Not(Box<Check>),
    AllOf(Vec<Check>),
    AnyOf(Vec<Check>),
    Size {
        over: bool,
        limit: u64,
    },
    Exists(Vec<Text>),
    Header {
        matcher: Matcher,
        pick: Option<Pick>,
        names: Vec<Text>,
        keys: Vec<Text>,
    },
    Address {
        matcher: Matcher,
        part: AddressPart,
        pick: Option<Pick>,
        names: Vec<Text>,
        keys: Vec<Text>,
    },
    Envelope {
        matcher: Matcher,
        part: AddressPart,
        fields: Vec<Text>,
        keys: Vec<Text>,
    },
    Body {
        matcher: Matcher,
        transform: Transform,
        keys: Vec<Text>,
    },
    Date(Box<Date>),
    Strings {
        matcher: Matcher,
        sources: Vec<Text>,
        keys: Vec<Text>,
    },
    HasFlag {
        matcher: Matcher,
        variables: Option<Vec<u16>>,
        flags: Vec<Text>,
    },
    MailboxExists(Vec<Text>),
    MailboxIdExists(Vec<Text>),
    Duplicate(Box<Duplicate>),
    Environment {
        matcher: Matcher,
        name: Text,
        keys: Vec<Text>,
    },
    ValidNotifyMethod(Vec<Text>),
    NotifyMethodCapability {
        matcher: Matcher,
        method: Text,
        capability: Text,
        keys: Vec<Text>,
    },
    /// The capabilities to switch on; `None` when one of them does not exist.
    Ihave(Option<Vec<Capability>>),
    /// A test of an extension that is missing, in a script with `ihave`.
    Missing(String),
}

/// `:index`, counted from 1, and from the end with `:last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub index: u64,
    pub last: bool,
}

/// What `body` looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transform {
    Raw,
    Text,
    Content(Vec<Text>),
}

/// `date`, or without a header `currentdate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Date {
    pub matcher: Matcher,
    pub pick: Option<Pick>,
    pub zone: Zone,
    pub header: Option<Text>,
    pub part: Text,
    pub keys: Vec<Text>,
}

/// The zone that a date is shifted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    Local,
    Original,
    Offset(Text),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    pub handle: Option<Text>,
    pub id: DuplicateId,
    pub seconds: Option<u64>,
    pub last: bool,
}

/// What `duplicate` takes for the message's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DuplicateId {
    Header(Text),
    Unique(Text),
}

impl Matcher {
    /// The relation of `:count`, whose number each test makes in its own way.
    pub fn count(self) -> Option<Relation> {
        match self.kind {
            crate::matcher::MatchType::Count(relation) => Some(relation),
            _ => None,
        }
    }
}
