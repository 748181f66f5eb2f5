//! What follows from what was found.
//!
//! A result that says "the DNS did not answer" is never a reason to refuse or to hide mail: an outage of the DNS must not
//! be one of the mail.

use crate::{
    field::plain,
    results::{Authors, Dmarc, Listed, Outcome, Policy, Results},
    settings::{Check, ListAction, Settings},
};

/// What is done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// To where it is addressed.
    Deliver,
    /// Into each recipient's Junk mailbox.
    Junk,
    /// 550 with this text, status first.
    Refuse(String),
    /// 451: what would have been enforced could not be looked at.
    Later,
}

impl Action {
    /// For logs and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Junk => "junk",
            Self::Refuse(_) => "refuse",
            Self::Later => "later",
        }
    }
}

/// Decides; `allowed` when the client is in a network whose mail is not refused.
#[must_use]
pub fn decide(results: &Results, settings: &Settings, allowed: bool) -> Action {
    if allowed {
        return Action::Deliver;
    }
    let passes = results.dmarc.as_ref().is_some_and(|dmarc| dmarc.outcome == Outcome::Pass);
    if let Some(dmarc) = results.dmarc.as_ref().filter(|_| settings.dmarc == Check::Enforce) {
        match by_dmarc(dmarc, results) {
            Action::Deliver => {}
            action => return action,
        }
    }
    // What the author's domain vouches for by DKIM is not refused for the way that it came (RFC 7489 section 10.1).
    if settings.spf == Check::Enforce && results.spf == Some(Outcome::Fail) && !passes {
        return Action::Refuse(
            "5.7.23 the sender's domain does not let this server send its mail (SPF fail, RFC 7208)"
                .to_owned(),
        );
    }
    match results.listed.iter().any(|listed| listed.action != ListAction::Mark) {
        true => Action::Junk,
        false => Action::Deliver,
    }
}

fn by_dmarc(dmarc: &Dmarc, results: &Results) -> Action {
    match (dmarc.authors, dmarc.outcome, dmarc.policy) {
        (Authors::Several, ..) => Action::Refuse(
            "5.7.1 a message has one From field, of one author (RFC 5322 section 3.6.2)".to_owned(),
        ),
        (Authors::Unreadable, ..) | (Authors::Named, Outcome::Fail, Policy::Quarantine) => Action::Junk,
        (Authors::Named, Outcome::Fail, Policy::Reject) => {
            let word = |outcome: Option<Outcome>| outcome.unwrap_or(Outcome::None).word();
            Action::Refuse(format!(
                "5.7.26 {} asks to refuse its mail when neither SPF ({}) nor DKIM ({}) of its own passes (DMARC p=reject, \
                 RFC 9989)",
                plain(&dmarc.domain),
                word(results.spf),
                word(results.dkim_outcome()),
            ))
        }
        _ => Action::Deliver,
    }
}

/// What is done when there was no turn to look at the message: who fills all turns must not get mail past what is enforced.
pub(crate) fn not_looked_at(action: Action, settings: &Settings, allowed: bool) -> Action {
    if settings.enforces() && !allowed { Action::Later } else { action }
}

/// Why a recipient is refused to a client that lists have; none when it is not.
#[must_use]
pub fn refusal(listed: &[Listed], client: std::net::IpAddr) -> Option<String> {
    let by = listed.iter().find(|listed| listed.action == ListAction::Reject)?;
    Some(format!("5.7.1 [{}] is listed by {}: ask there why (RFC 5782)", client.to_canonical(), by.zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dmarc(outcome: Outcome, policy: Policy) -> Option<Dmarc> {
        Some(Dmarc { outcome, policy, domain: "example.org".into(), authors: Authors::Named })
    }

    fn without(authors: Authors) -> Option<Dmarc> {
        Some(Dmarc { outcome: Outcome::PermError, policy: Policy::None, domain: String::new(), authors })
    }

    fn word(action: &Action) -> &str {
        match action {
            Action::Deliver => "deliver",
            Action::Junk => "junk",
            Action::Refuse(text) => text.split(' ').next().unwrap_or_default(),
            Action::Later => "later",
        }
    }

    fn settings(spf: Check, dmarc: Check) -> Settings {
        Settings { spf, dmarc, ..Settings::mark() }
    }

    #[test]
    fn what_dmarc_found_counts_where_it_is_enforced() {
        use Outcome as O;
        use Policy as P;
        for (found, enforced) in [
            (dmarc(O::Pass, P::Reject), "deliver"),
            (dmarc(O::Fail, P::Reject), "5.7.26"),
            (dmarc(O::Fail, P::Quarantine), "junk"),
            (dmarc(O::Fail, P::None), "deliver"),
            (dmarc(O::None, P::None), "deliver"),
            (dmarc(O::TempError, P::Reject), "deliver"),
            (dmarc(O::TempError, P::Quarantine), "deliver"),
            (dmarc(O::PermError, P::Reject), "deliver"),
            (without(Authors::Several), "5.7.1"),
            (without(Authors::Unreadable), "junk"),
            (without(Authors::Unknown), "deliver"),
            (None, "deliver"),
        ] {
            let results = Results { dmarc: found.clone(), ..Results::default() };
            let decided = decide(&results, &settings(Check::Mark, Check::Enforce), false);
            assert_eq!(word(&decided), enforced, "{found:?}");
            for (settings, allowed) in
                [(settings(Check::Mark, Check::Mark), false), (settings(Check::Mark, Check::Enforce), true)]
            {
                assert_eq!(decide(&results, &settings, allowed), Action::Deliver, "{found:?} {settings:?}");
            }
        }
    }

    #[test]
    fn spf_refuses_only_what_fails_and_dkim_does_not_vouch_for() {
        use Outcome as O;
        for (spf, found, enforced) in [
            (O::Fail, None, "5.7.23"),
            (O::Fail, dmarc(O::Pass, Policy::Reject), "deliver"),
            (O::Fail, dmarc(O::Fail, Policy::None), "5.7.23"),
            (O::Fail, dmarc(O::TempError, Policy::None), "5.7.23"),
            (O::SoftFail, None, "deliver"),
            (O::Neutral, None, "deliver"),
            (O::None, None, "deliver"),
            (O::TempError, None, "deliver"),
            (O::PermError, None, "deliver"),
            (O::Pass, None, "deliver"),
        ] {
            let results = Results { spf: Some(spf), dmarc: found, ..Results::default() };
            let decided = decide(&results, &settings(Check::Enforce, Check::Mark), false);
            assert_eq!(word(&decided), enforced, "{results:?}");
            let marked = decide(&results, &settings(Check::Mark, Check::Mark), false);
            assert_eq!(marked, Action::Deliver, "{results:?}");
            // The name in HELO is no reason.
            let helo = Results { helo: Some(O::Fail), ..Results::default() };
            assert_eq!(decide(&helo, &settings(Check::Enforce, Check::Enforce), false), Action::Deliver);
        }
    }

    #[test]
    fn what_was_not_looked_at_is_put_off_only_where_something_is_enforced() {
        for (spf, dmarc, allowed, expected) in [
            (Check::Mark, Check::Mark, false, Action::Deliver),
            (Check::Enforce, Check::Mark, false, Action::Later),
            (Check::Mark, Check::Enforce, false, Action::Later),
            (Check::Enforce, Check::Enforce, true, Action::Deliver),
        ] {
            assert_eq!(not_looked_at(Action::Deliver, &settings(spf, dmarc), allowed), expected);
        }
    }

    #[test]
    fn lists_do_what_each_is_for() {
        let listed = |action| Listed { zone: "bl.example".into(), answer: [127, 0, 0, 2].into(), action };
        let client = "192.0.2.1".parse().unwrap();
        for (actions, refused, expected) in [
            (&[][..], false, Action::Deliver),
            (&[ListAction::Mark], false, Action::Deliver),
            (&[ListAction::Mark, ListAction::Junk], false, Action::Junk),
            // Who was let through to postmaster all the same.
            (&[ListAction::Reject], true, Action::Junk),
        ] {
            let results =
                Results { listed: actions.iter().map(|a| listed(*a)).collect(), ..Results::default() };
            assert_eq!(refusal(&results.listed, client).is_some(), refused, "{actions:?}");
            assert_eq!(decide(&results, &Settings::mark(), false), expected, "{actions:?}");
        }
        let text = refusal(&[listed(ListAction::Reject)], client).unwrap();
        assert_eq!(text, "5.7.1 [192.0.2.1] is listed by bl.example: ask there why (RFC 5782)");
    }

    #[test]
    fn a_refusal_is_one_line_whatever_the_domain_is_called() {
        let mut found = dmarc(Outcome::Fail, Policy::Reject).unwrap();
        found.domain = "evil\r\n250 ok.example".into();
        let results = Results { dmarc: Some(found), ..Results::default() };
        let Action::Refuse(text) = decide(&results, &settings(Check::Mark, Check::Enforce), false) else {
            unreachable!("it is refused")
        };
        assert!(!text.contains(['\r', '\n']) && text.starts_with("5.7.26 evil"), "{text}");
    }
}
