//! Tests of header fields, of the addresses in them, and of the envelope.

use std::borrow::Cow;

use super::{Result, Run, fail, values::Leaves};
use crate::{
    Address, address::AddressPart, compile::has_addresses, matcher::Matcher, program::Pick, text::Text,
};

impl Run<'_> {
    pub fn exists(&mut self, names: &[Text]) -> Result<bool> {
        for name in names {
            let name = self.string(name)?;
            if self.fields.raw(&name, &mut self.budget)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn header(
        &mut self,
        matcher: Matcher,
        pick: Option<Pick>,
        names: &[Text],
        keys: &[Text],
    ) -> Result<bool> {
        let mut values = Vec::new();
        for name in names {
            let name = self.string(name)?;
            values.extend(self.fields.decoded(&name, &mut self.budget)?.iter().cloned());
        }
        let values: Vec<&Cow<'_, [u8]>> = picked(&values, pick).collect();
        if let Some(relation) = matcher.count() {
            return self.counts(matcher, relation, values.len(), keys);
        }
        for value in values {
            if self.matches_any(matcher, value.trim_ascii(), keys, Leaves::Mail)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn address_fields(&mut self, names: &[Text]) -> Result<Vec<Vec<Address>>> {
        let mut fields = Vec::new();
        for name in names {
            let name = self.string(name)?;
            if !has_addresses(name.as_bytes()) {
                return fail(format!("address looks at fields with addresses, and {name:?} has none"));
            }
            fields.extend(self.fields.addresses(&name, &mut self.budget)?.iter().cloned());
        }
        Ok(fields)
    }

    /// The `address` test, of the fields that were picked.
    pub fn address(
        &mut self,
        matcher: Matcher,
        part: AddressPart,
        addresses: &[&Address],
        keys: &[Text],
    ) -> Result<bool> {
        let Some(relation) = matcher.count() else { return self.addresses(matcher, part, addresses, keys) };
        let valid = addresses.iter().filter(|address| matches!(address, Address::Valid { .. }));
        self.counts(matcher, relation, valid.count(), keys)
    }

    fn addresses(
        &mut self,
        matcher: Matcher,
        part: AddressPart,
        addresses: &[&Address],
        keys: &[Text],
    ) -> Result<bool> {
        for address in addresses {
            let Some(value) = address.part(part, self.context.separator) else { continue };
            if self.matches_any(matcher, value.as_bytes(), keys, Leaves::Mail)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn envelope(
        &mut self,
        matcher: Matcher,
        part: AddressPart,
        fields: &[Text],
        keys: &[Text],
    ) -> Result<bool> {
        let mut paths = Vec::new();
        for field in fields {
            match self.bounded(field)?.to_ascii_lowercase().as_slice() {
                b"from" => paths.push(self.context.sender),
                b"to" => paths.push(self.context.recipient),
                _ => return fail("an envelope has \"from\" and \"to\""),
            }
        }
        if let Some(relation) = matcher.count() {
            let count = paths.iter().filter(|path| !path.is_empty()).count();
            return self.counts(matcher, relation, count, keys);
        }
        for path in paths {
            // The null sender is the empty string in each of its parts.
            let holds = if path.is_empty() {
                self.matches_any(matcher, b"", keys, Leaves::Mail)?
            } else {
                self.addresses(matcher, part, &[&Address::from_path(path)], keys)?
            };
            if holds {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// All fields, or the one that `:index` means.
pub fn picked<T>(fields: &[T], pick: Option<Pick>) -> std::slice::Iter<'_, T> {
    let Some(Pick { index, last }) = pick else { return fields.iter() };
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let start = if last { fields.len().checked_sub(index) } else { index.checked_sub(1) };
    start.and_then(|start| fields.get(start..=start)).unwrap_or_default().iter()
}
