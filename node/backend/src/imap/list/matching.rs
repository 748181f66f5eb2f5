//! Which names LIST and LSUB answer, and with which attributes; pure.

use std::collections::BTreeMap;

use mailcluster_proto_imap::command::ListSelect;
use mailcluster_store::{Mailbox, SpecialUse};

/// A name that may be listed.
#[derive(Debug, Clone, Default)]
struct Node {
    exists: bool,
    subscribed: bool,
    special_use: Option<SpecialUse>,
}

/// All names of an account: mailboxes, subscriptions and the levels above them.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Node>);

/// A name to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub name: String,
    pub attributes: Vec<&'static str>,
    /// RECURSIVEMATCH: there are subscribed names below.
    pub child_info: bool,
    pub exists: bool,
}

impl Names {
    pub fn new(mailboxes: &[Mailbox], subscriptions: Vec<String>) -> Self {
        let mut names = Self::default();
        for mailbox in mailboxes {
            let node = names.with_parents(&mailbox.name);
            node.exists = true;
            node.special_use = mailbox.special_use;
        }
        for name in subscriptions {
            names.with_parents(&name).subscribed = true;
        }
        names
    }

    fn with_parents(&mut self, name: &str) -> &mut Node {
        for (level, _) in name.match_indices('/') {
            self.0.entry(name[..level].to_owned()).or_default();
        }
        self.0.entry(name.to_owned()).or_default()
    }

    /// Names below this one.
    fn below<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a String, &'a Node)> + use<'a> {
        let prefix = format!("{name}/");
        self.0.range(prefix.clone()..).take_while(move |(below, _)| below.starts_with(&prefix))
    }

    /// LIST, basic (RFC 3501) and extended (RFC 5258).
    pub fn list(&self, patterns: &[String], select: ListSelect, tell_subscribed: bool) -> Vec<Listed> {
        let mut listed = Vec::new();
        for (name, node) in &self.0 {
            if !patterns.iter().any(|pattern| matches(pattern, name)) {
                continue;
            }
            let below = self.below(name).any(|(_, below)| below.exists);
            let chosen = (!select.subscribed || node.subscribed)
                && (!select.special_use || node.special_use.is_some())
                && (node.exists || below || select.subscribed);
            let child_info = select.recursive_match
                && self.below(name).any(|(_, below)| {
                    (!select.subscribed || below.subscribed)
                        && (!select.special_use || below.special_use.is_some())
                });
            if !chosen && !child_info {
                continue;
            }
            let mut attributes = node.attributes(below);
            if node.subscribed && (select.subscribed || tell_subscribed) {
                attributes.push("\\Subscribed");
            }
            listed.push(Listed { name: name.clone(), attributes, child_info, exists: node.exists });
        }
        listed
    }

    /// LSUB: subscribed names, existing or not; a level above one is told as `\Noselect` when the pattern ends
    /// there (RFC 3501 section 6.3.9).
    pub fn lsub(&self, pattern: &str) -> Vec<Listed> {
        let mut listed = Vec::new();
        for (name, node) in self.0.iter().filter(|(name, _)| matches(pattern, name)) {
            let attributes = if node.subscribed {
                Vec::new()
            } else if self.below(name).any(|(below, node)| node.subscribed && !matches(pattern, below)) {
                vec!["\\Noselect"]
            } else {
                continue;
            };
            listed.push(Listed { name: name.clone(), attributes, child_info: false, exists: node.exists });
        }
        listed
    }
}

impl Node {
    fn attributes(&self, children: bool) -> Vec<&'static str> {
        let mut attributes = Vec::new();
        if !self.exists {
            attributes.extend(["\\NonExistent", "\\Noselect"]);
        }
        attributes.push(if children { "\\HasChildren" } else { "\\HasNoChildren" });
        attributes.extend(self.special_use.map(|special_use| match special_use {
            SpecialUse::Sent => "\\Sent",
            SpecialUse::Drafts => "\\Drafts",
            SpecialUse::Trash => "\\Trash",
            SpecialUse::Junk => "\\Junk",
            SpecialUse::Archive => "\\Archive",
        }));
        attributes
    }
}

/// Does the name match? `*` stands for anything, `%` for anything without `/`. Takes time in proportion to both
/// lengths' product, whatever the pattern.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // reached[i]: the pattern so far can end just before name[i].
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for p in pattern.chars() {
        if matches!(p, '*' | '%') {
            for i in 0..name.len() {
                if reached[i] && (p == '*' || name[i] != '/') {
                    reached[i + 1] = true;
                }
            }
        } else {
            for i in (0..name.len()).rev() {
                reached[i + 1] = reached[i] && name[i] == p;
            }
            reached[0] = false;
        }
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use mailcluster_store::MailboxCounts;
    use mailcluster_types::AccountId;

    use super::*;

    fn names(mailboxes: &[&str], subscriptions: &[&str]) -> Names {
        let mailboxes: Vec<Mailbox> = mailboxes
            .iter()
            .map(|name| Mailbox {
                id: 1,
                account: AccountId(1),
                name: (*name).to_owned(),
                uid_validity: 1,
                uid_next: 1,
                highest_modseq: 1,
                special_use: (*name == "Sent").then_some(SpecialUse::Sent),
                counts: MailboxCounts::default(),
            })
            .collect();
        Names::new(&mailboxes, subscriptions.iter().map(|name| (*name).to_owned()).collect())
    }

    fn shown(listed: &[Listed]) -> Vec<String> {
        listed
            .iter()
            .map(|l| format!("{} {}{}", l.name, l.attributes.join(" "), if l.child_info { " +" } else { "" }))
            .collect()
    }

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("a/%", "a/b", true),
            ("a/%", "a/b/c", false),
            ("%/%", "a/b", true),
            ("a*c", "a/b/c", true),
            ("", "a", false),
            ("", "", true),
            ("ä%", "äö", true),
            ("*%*%*%*%*%*%*%*%x", &"y".repeat(900), false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn basic_list() {
        let names = names(&["INBOX", "Sent", "a-b", "a/x/y"], &[]);
        assert_eq!(
            shown(&names.list(&["%".into()], ListSelect::default(), false)),
            [
                "INBOX \\HasNoChildren",
                "Sent \\HasNoChildren \\Sent",
                "a \\NonExistent \\Noselect \\HasChildren",
                "a-b \\HasNoChildren"
            ]
        );
        let all = names.list(&["*".into()], ListSelect::default(), false);
        assert_eq!(all.len(), 6);
        let special = ListSelect { special_use: true, ..ListSelect::default() };
        assert_eq!(shown(&names.list(&["*".into()], special, false)), ["Sent \\HasNoChildren \\Sent"]);
    }

    #[test]
    fn subscriptions() {
        let names = names(&["INBOX", "a", "a/b"], &["INBOX", "a/b", "gone", "deep/gone"]);
        let subscribed = ListSelect { subscribed: true, ..ListSelect::default() };
        assert_eq!(
            shown(&names.list(&["*".into()], subscribed, false)),
            [
                "INBOX \\HasNoChildren \\Subscribed",
                "a/b \\HasNoChildren \\Subscribed",
                "deep/gone \\NonExistent \\Noselect \\HasNoChildren \\Subscribed",
                "gone \\NonExistent \\Noselect \\HasNoChildren \\Subscribed"
            ]
        );
        let recursive = ListSelect { recursive_match: true, ..subscribed };
        assert_eq!(
            shown(&names.list(&["%".into()], recursive, false)),
            [
                "INBOX \\HasNoChildren \\Subscribed",
                "a \\HasChildren +",
                "deep \\NonExistent \\Noselect \\HasNoChildren +",
                "gone \\NonExistent \\Noselect \\HasNoChildren \\Subscribed"
            ]
        );
        assert_eq!(shown(&names.list(&["a".into()], ListSelect::default(), true)), ["a \\HasChildren"]);
        assert_eq!(shown(&names.lsub("%")), ["INBOX ", "a \\Noselect", "deep \\Noselect", "gone "]);
        assert_eq!(shown(&names.lsub("*")), ["INBOX ", "a/b ", "deep/gone ", "gone "]);
        assert_eq!(names.list(&["deep*".into()], ListSelect::default(), false), []);
    }
}
