//! The messages a session sees, from login to QUIT: pure.

use mailcluster_types::Uid;

/// A message of the maildrop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Its UID.
    pub uid: Uid,
    /// Its size in octets.
    pub size: u32,
    /// Names its body in the store.
    pub body: u64,
    deleted: bool,
}

impl Item {
    /// A message that is there.
    pub fn new(uid: Uid, size: u32, body: u64) -> Self {
        Self { uid, size, body, deleted: false }
    }
}

/// INBOX as it was at login, and what the session has marked deleted.
#[derive(Debug, Default)]
pub struct Maildrop {
    /// The mailbox's id.
    pub mailbox: u64,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    items: Vec<Item>,
}

/// There is no such message, or it is marked deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchMessage;

impl Maildrop {
    /// A maildrop with these messages, numbered from 1.
    pub fn new(mailbox: u64, uid_validity: u32, items: Vec<Item>) -> Self {
        Self { mailbox, uid_validity, items }
    }

    fn index(number: u32) -> Result<usize, NoSuchMessage> {
        number.checked_sub(1).and_then(|n| usize::try_from(n).ok()).ok_or(NoSuchMessage)
    }

    /// A message that is not marked deleted.
    pub fn get(&self, number: u32) -> Result<Item, NoSuchMessage> {
        let item = self.items.get(Self::index(number)?).ok_or(NoSuchMessage)?;
        if item.deleted { Err(NoSuchMessage) } else { Ok(*item) }
    }

    /// DELE.
    pub fn delete(&mut self, number: u32) -> Result<(), NoSuchMessage> {
        self.get(number)?;
        let item = self.items.get_mut(Self::index(number)?).ok_or(NoSuchMessage)?;
        item.deleted = true;
        Ok(())
    }

    /// RSET.
    pub fn reset(&mut self) {
        self.items.iter_mut().for_each(|item| item.deleted = false);
    }

    /// Numbers and messages not marked deleted.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Item)> {
        (1u32..).zip(&self.items).filter(|(_, item)| !item.deleted)
    }

    /// STAT: how many, and their octets.
    pub fn stat(&self) -> (usize, u64) {
        self.live().fold((0, 0), |(count, octets), (_, item)| (count + 1, octets + u64::from(item.size)))
    }

    /// What QUIT removes.
    pub fn deleted(&self) -> Vec<Uid> {
        self.items.iter().filter(|item| item.deleted).map(|item| item.uid).collect()
    }

    /// The unique id of a message (RFC 1939 section 7): never used again, equal in every session.
    pub fn unique_id(&self, item: &Item) -> String {
        format!("{}.{}", self.uid_validity, item.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_marks() {
        let items = [(3, 10), (7, 20), (9, 30)].map(|(uid, size)| Item::new(uid, size, 0));
        let mut drop = Maildrop::new(1, 77, items.to_vec());
        assert_eq!(drop.stat(), (3, 60));
        assert_eq!(drop.get(0), Err(NoSuchMessage));
        assert_eq!(drop.get(4), Err(NoSuchMessage));
        assert_eq!(drop.get(2).map(|i| drop.unique_id(&i)), Ok("77.7".to_owned()));
        assert_eq!(drop.delete(2), Ok(()));
        assert_eq!(drop.delete(2), Err(NoSuchMessage));
        assert_eq!((drop.stat(), drop.deleted()), ((2, 40), vec![7]));
        assert_eq!(drop.live().map(|(n, i)| (n, i.uid)).collect::<Vec<_>>(), [(1, 3), (3, 9)]);
        drop.reset();
        assert_eq!((drop.stat(), drop.deleted()), ((3, 60), vec![]));
    }
}
