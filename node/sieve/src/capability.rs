//! The extensions that there are, by the names that `require` uses.

/// An extension, or a comparator that can be required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the name in the table below")]
pub enum Capability {
    Body,
    ComparatorCasemap,
    ComparatorNumeric,
    ComparatorOctet,
    Copy,
    Date,
    Duplicate,
    EncodedCharacter,
    Enotify,
    Envelope,
    Environment,
    Ereject,
    Fileinto,
    Ihave,
    Imap4flags,
    Index,
    Mailbox,
    MailboxId,
    Reject,
    Relational,
    Subaddress,
    Vacation,
    VacationSeconds,
    Variables,
}

const NAMES: &[(Capability, &str)] = &[
    (Capability::Body, "body"),
    (Capability::ComparatorCasemap, "comparator-i;ascii-casemap"),
    (Capability::ComparatorNumeric, "comparator-i;ascii-numeric"),
    (Capability::ComparatorOctet, "comparator-i;octet"),
    (Capability::Copy, "copy"),
    (Capability::Date, "date"),
    (Capability::Duplicate, "duplicate"),
    (Capability::EncodedCharacter, "encoded-character"),
    (Capability::Enotify, "enotify"),
    (Capability::Envelope, "envelope"),
    (Capability::Environment, "environment"),
    (Capability::Ereject, "ereject"),
    (Capability::Fileinto, "fileinto"),
    (Capability::Ihave, "ihave"),
    (Capability::Imap4flags, "imap4flags"),
    (Capability::Index, "index"),
    (Capability::Mailbox, "mailbox"),
    (Capability::MailboxId, "mailboxid"),
    (Capability::Reject, "reject"),
    (Capability::Relational, "relational"),
    (Capability::Subaddress, "subaddress"),
    (Capability::Vacation, "vacation"),
    (Capability::VacationSeconds, "vacation-seconds"),
    (Capability::Variables, "variables"),
];

impl Capability {
    /// Its name in `require`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(capability, _)| *capability == self).map_or("", |(_, name)| name)
    }

    /// The capability of a name; names are case-sensitive (RFC 5228 section 6).
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        NAMES.iter().find(|(_, known)| known.as_bytes() == name).map(|(capability, _)| *capability)
    }

    /// Whether it changes how strings are read, so that `ihave` cannot switch it on (RFC 5463 section 4).
    pub(crate) fn changes_strings(self) -> bool {
        matches!(self, Self::EncodedCharacter | Self::Variables)
    }
}

/// A set of capabilities: what a site offers, or what a script has required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    /// None: the commands and tests that every script may use.
    pub const NONE: Self = Self(0);

    /// All that this crate knows.
    #[must_use]
    pub fn all() -> Self {
        NAMES.iter().fold(Self::NONE, |all, (capability, _)| all.with(*capability))
    }

    /// All that a delivery of this cluster can do: `mailboxid` needs OBJECTID, which its IMAP does not have.
    #[must_use]
    pub fn at_delivery() -> Self {
        Self::all().without(Capability::MailboxId)
    }

    /// The set with one more.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u32)
    }

    /// The set without one: it is then as unknown as one that does not exist.
    #[must_use]
    pub fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability as u32))
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u32 != 0
    }

    /// The names, sorted: what ManageSieve shows as `SIEVE` (RFC 5804 section 1.7).
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(capability, _)| self.contains(*capability)).map(|(_, name)| *name)
    }
}
