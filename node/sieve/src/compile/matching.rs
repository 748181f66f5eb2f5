//! Tags that many tests share: comparators, match types, address parts, and which field of several.

use super::{Args, Compiler, Result, Tag, unknown_tag};
use crate::{
    Capability, CompileError,
    address::AddressPart,
    matcher::{Comparator, MatchType, Matcher, Relation},
    program::Pick,
    syntax::Literal,
};

/// Which of the shared tags a test takes besides comparators and match types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Matching,
    AddressPart,
    Index,
    AddressPartAndIndex,
}

/// The shared tags of one test.
#[derive(Default)]
pub struct Shared<'a> {
    comparator: Option<Comparator>,
    kind: Option<MatchType>,
    part: Option<AddressPart>,
    index: Option<u64>,
    last: Option<Tag<'a>>,
}

impl Shared<'_> {
    pub fn part(&self) -> AddressPart {
        self.part.unwrap_or(AddressPart::All)
    }

    pub fn pick(&self) -> Result<Option<Pick>> {
        match (self.index, self.last) {
            (None, None) => Ok(None),
            (Some(index), last) => Ok(Some(Pick { index, last: last.is_some() })),
            (None, Some(last)) => {
                Err(CompileError::new(last.at, ":last needs an :index: which one, counted from the end"))
            }
        }
    }
}

impl Compiler<'_> {
    /// All tags of a test that has no others.
    pub fn shared<'a>(&mut self, args: &mut Args<'a>, takes: Takes) -> Result<Shared<'a>> {
        let mut shared = Shared::default();
        while let Some(tag) = args.tag()? {
            if !self.shared_tag(&mut shared, args, tag, takes)? {
                return Err(unknown_tag(args.name, tag));
            }
        }
        Ok(shared)
    }

    /// Takes a tag if it is a shared one.
    pub fn shared_tag<'a>(
        &mut self,
        shared: &mut Shared<'a>,
        args: &mut Args<'a>,
        tag: Tag<'a>,
        takes: Takes,
    ) -> Result<bool> {
        let parts = matches!(takes, Takes::AddressPart | Takes::AddressPartAndIndex);
        let index = matches!(takes, Takes::Index | Takes::AddressPartAndIndex);
        match tag.name {
            "comparator" => shared.comparator = Some(self.comparator(args.string("a comparator")?)?),
            "is" | "contains" | "matches" | "value" | "count" => {
                if shared.kind.is_some() {
                    let message = format!("{} takes one match type: leave :{} out", args.name, tag.name);
                    return Err(CompileError::new(tag.at, message));
                }
                shared.kind = Some(self.match_type(args, tag)?);
            }
            "all" | "localpart" | "domain" | "user" | "detail" if parts => {
                if shared.part.is_some() {
                    let message = format!("{} takes one address part: leave :{} out", args.name, tag.name);
                    return Err(CompileError::new(tag.at, message));
                }
                shared.part = Some(self.address_part(tag)?);
            }
            "index" if index => {
                self.need(Capability::Index, tag.at, ":index")?;
                let number = args.number("a number of a field, from 1")?;
                if number == 0 {
                    return Err(CompileError::new(tag.at, ":index counts from 1"));
                }
                shared.index = Some(number);
            }
            "last" if index => {
                self.need(Capability::Index, tag.at, ":last")?;
                shared.last = Some(tag);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn comparator(&mut self, literal: &Literal) -> Result<Comparator> {
        match self.constant(literal, "a comparator")?.as_slice() {
            b"i;octet" => Ok(Comparator::Octet),
            b"i;ascii-casemap" => Ok(Comparator::Casemap),
            b"i;ascii-numeric" => {
                self.need(Capability::ComparatorNumeric, literal.at, "i;ascii-numeric")?;
                Ok(Comparator::Numeric)
            }
            other => {
                let message = format!(
                    "there is no comparator {:?}: i;octet, i;ascii-casemap and i;ascii-numeric are known",
                    String::from_utf8_lossy(other)
                );
                Err(CompileError::missing(literal.at, message))
            }
        }
    }

    fn match_type(&mut self, args: &mut Args<'_>, tag: Tag<'_>) -> Result<MatchType> {
        match tag.name {
            "is" => return Ok(MatchType::Is),
            "contains" => return Ok(MatchType::Contains),
            "matches" => return Ok(MatchType::Matches),
            _ => {}
        }
        self.need(Capability::Relational, tag.at, &format!(":{}", tag.name))?;
        let literal = args.string("\"gt\", \"ge\", \"lt\", \"le\", \"eq\" or \"ne\"")?;
        let name = self.constant(literal, "a relation")?;
        let relation = Relation::from_name(&name).ok_or_else(|| {
            CompileError::new(literal.at, "a relation is \"gt\", \"ge\", \"lt\", \"le\", \"eq\" or \"ne\"")
        })?;
        Ok(if tag.name == "value" { MatchType::Value(relation) } else { MatchType::Count(relation) })
    }

    fn address_part(&mut self, tag: Tag<'_>) -> Result<AddressPart> {
        Ok(match tag.name {
            "all" => AddressPart::All,
            "localpart" => AddressPart::Localpart,
            "domain" => AddressPart::Domain,
            subpart => {
                self.need(Capability::Subaddress, tag.at, &format!(":{subpart}"))?;
                if subpart == "user" { AddressPart::User } else { AddressPart::Detail }
            }
        })
    }

    /// The matcher that a test's tags make.
    pub fn matcher(&mut self, args: &Args<'_>, shared: &Shared<'_>) -> Result<Matcher> {
        let comparator = shared.comparator.unwrap_or(Comparator::Casemap);
        let kind = shared.kind.unwrap_or(MatchType::Is);
        if comparator == Comparator::Numeric && matches!(kind, MatchType::Contains | MatchType::Matches) {
            let message =
                "i;ascii-numeric compares numbers, which :contains and :matches cannot: use :is or :value";
            return Err(CompileError::new(args.at, message));
        }
        if matches!(kind, MatchType::Count(_)) && comparator != Comparator::Numeric {
            let message =
                ":count compares as text here, where 10 is less than 9: add :comparator \"i;ascii-numeric\"";
            self.warn(args.at, message);
        }
        Ok(Matcher { comparator, kind })
    }
}
