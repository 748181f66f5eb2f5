//! Header fields of a message, each name looked up once.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use crate::{
    Address, Mail,
    matcher::{Budget, Exhausted},
};

/// The values of fields, as they were asked for.
pub struct Fields<'a> {
    mail: &'a dyn Mail,
    raw: Cache<Cow<'a, [u8]>>,
    decoded: Cache<Cow<'a, [u8]>>,
    addresses: Cache<Vec<Address>>,
}

type Cache<T> = HashMap<String, Rc<[T]>>;

impl<'a> Fields<'a> {
    pub fn new(mail: &'a dyn Mail) -> Self {
        Self { mail, raw: Cache::new(), decoded: Cache::new(), addresses: Cache::new() }
    }

    pub fn raw(&mut self, name: &str, budget: &mut Budget) -> Result<Rc<[Cow<'a, [u8]>]>, Exhausted> {
        let mail = self.mail;
        look_up(&mut self.raw, mail, name, budget, |name| mail.raw_header(name))
    }

    pub fn decoded(&mut self, name: &str, budget: &mut Budget) -> Result<Rc<[Cow<'a, [u8]>]>, Exhausted> {
        let mail = self.mail;
        look_up(&mut self.decoded, mail, name, budget, |name| mail.header(name))
    }

    pub fn addresses(&mut self, name: &str, budget: &mut Budget) -> Result<Rc<[Vec<Address>]>, Exhausted> {
        let mail = self.mail;
        look_up(&mut self.addresses, mail, name, budget, |name| mail.addresses(name))
    }
}

/// A name that is new costs what the header is long: it may have to be read through.
fn look_up<T>(
    cache: &mut Cache<T>,
    mail: &dyn Mail,
    name: &str,
    budget: &mut Budget,
    read: impl FnOnce(&str) -> Vec<T>,
) -> Result<Rc<[T]>, Exhausted> {
    let name = name.to_ascii_lowercase();
    if let Some(known) = cache.get(&name) {
        return Ok(Rc::clone(known));
    }
    budget.spend(mail.header_size())?;
    let values: Rc<[T]> = read(&name).into();
    cache.insert(name, Rc::clone(&values));
    Ok(values)
}
