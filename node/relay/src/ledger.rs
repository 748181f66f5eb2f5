//! What is known of a message's recipients while hosts are tried.

use mailcluster_outbound::{
    Status,
    reply::{Action, Heard, Verdict, after_the_last_host, judge},
    route::{Failure, Target},
    tls::policy::{Fault, Source, consequence},
};
use mailcluster_proto_smtp::{Misfit, Outcome, Reply, Stage};

use crate::{
    demand::RuledOut,
    job::{Attempt, Fate, Told},
    session::Broken,
};

/// What is known of the recipients so far.
pub(crate) struct Ledger {
    told: Vec<Option<Told>>,
    /// What the hosts that were tried have said of those that have no answer yet.
    verdicts: Vec<Verdict>,
    last: Option<Told>,
    /// A host led a session up to a transaction.
    pub(crate) reached: bool,
}

impl Ledger {
    pub(crate) fn new(recipients: usize) -> Self {
        Self { told: vec![None; recipients], verdicts: Vec::new(), last: None, reached: false }
    }

    /// Those without an answer.
    pub(crate) fn open(&self) -> Vec<usize> {
        (0..self.told.len()).filter(|place| self.told[*place].is_none()).collect()
    }

    /// A connection to this host is not what it must be, or there is none. `strict` names whose demand was not met, if there
    /// was one.
    pub(crate) fn host_failed(&mut self, target: &Target, broken: &Broken, strict: Option<Source>) {
        let (stage, reply, text) = match broken {
            Broken::Refused(stage, reply) => {
                (*stage, Some(reply), "the server refused the session".to_owned())
            }
            Broken::Lost(stage, why) => (*stage, None, why.clone()),
            Broken::NoTls(why) | Broken::Handshake(why) => {
                (Stage::StartTls, None, format!("no TLS: {why}{}", demanded_by(strict)))
            }
            Broken::NoLogin(why) => (Stage::Auth, None, format!("no login: {why}")),
        };
        let mut verdict = judge(Heard { stage, reply, accepted_before: 0 });
        let fault = match broken {
            Broken::NoTls(_) => Some(Fault::NotOffered),
            Broken::Handshake(_) => Some(Fault::Handshake),
            _ => None,
        };
        if let (Some(source), Some(fault)) = (strict, fault) {
            verdict.status = consequence(true, source, fault).status;
        }
        self.verdicts.push(verdict);
        self.last = Some(told(target, Fate::Later, verdict.status, text, reply));
    }

    /// Nothing may be sent to this host, whatever it would say.
    pub(crate) fn ruled_out(&mut self, target: &Target, ruled_out: &RuledOut) {
        let heard = Heard { stage: Stage::Connect, reply: None, accepted_before: 0 };
        self.verdicts.push(Verdict { status: ruled_out.status, ..judge(heard) });
        self.last = Some(told(target, Fate::Later, ruled_out.status, ruled_out.text.clone(), None));
    }

    /// Writes down what was said; answers those that another transaction on this connection is for.
    pub(crate) fn heard(
        &mut self,
        (target, takes_dsn): (&Target, bool),
        places: &[usize],
        outcomes: &[Outcome],
    ) -> Vec<usize> {
        let mut again = Vec::new();
        let mut accepted = 0;
        for (place, outcome) in places.iter().zip(outcomes) {
            let heard =
                Heard { stage: outcome.stage, reply: outcome.reply.as_ref(), accepted_before: accepted };
            let verdict = judge(heard);
            accepted += usize::from(outcome.stage > Stage::Rcpt);
            let fate = match verdict.action {
                Action::Delivered => Fate::Delivered,
                Action::Bounce => Fate::Never,
                Action::Unknown => Fate::Unknown,
                Action::Defer | Action::Again | Action::NextHost => Fate::Later,
            };
            let text = sentence(fate, outcome.reply.is_some());
            let told = told(target, fate, verdict.status, text.to_owned(), outcome.reply.as_ref());
            let told = Told { takes_dsn, ..told };
            match verdict.action {
                Action::Again => again.push(*place),
                Action::NextHost => {
                    self.verdicts.push(verdict);
                    self.last = Some(told);
                }
                _ => self.told[*place] = Some(told),
            }
        }
        again
    }

    /// Another host of the domain may take it.
    pub(crate) fn misfit(&mut self, target: &Target, places: &[usize], misfit: Misfit) {
        let status = Status::parse(misfit.status()).unwrap_or(Status::new(5, 6, 0));
        for place in places {
            self.told[*place] = Some(told(target, Fate::Never, status, misfit.to_string(), None));
        }
    }

    pub(crate) fn unsendable(&mut self, places: &[usize], why: &str) {
        for place in places {
            let text = format!("it cannot be sent: {why}");
            self.told[*place] =
                Some(Told { fate: Fate::Never, status: Status::new(5, 6, 0), text, ..nothing() });
        }
    }

    /// Whoever has taken the store over sends it.
    pub(crate) fn not_ours(&mut self, places: &[usize]) {
        for place in places {
            let text = "the store was taken over meanwhile".to_owned();
            self.told[*place] = Some(Told { text, ..nothing() });
        }
    }

    pub(crate) fn conclude(self) -> Attempt {
        let verdict = after_the_last_host(&self.verdicts);
        let fate = if verdict.action == Action::Bounce { Fate::Never } else { Fate::Later };
        let last = self.last.unwrap_or_else(nothing);
        let rest = Told { fate, status: verdict.status, ..last };
        let told = self.told.into_iter().map(|told| told.unwrap_or_else(|| rest.clone())).collect();
        Attempt { told, reached: self.reached }
    }
}

fn demanded_by(strict: Option<Source>) -> &'static str {
    match strict {
        Some(Source::Tlsa) => ", and the host's TLSA records demand it",
        Some(Source::Sts) => ", and the domain's MTA-STS policy demands it",
        Some(Source::None) | None => "",
    }
}

fn sentence(fate: Fate, answered: bool) -> &'static str {
    match (fate, answered) {
        (Fate::Delivered, _) => "it was taken",
        (Fate::Never, _) => "the server refused it",
        (Fate::Unknown, _) => "the connection was lost after the end of the message",
        (Fate::Later, true) => "the server put it off",
        (Fate::Later, false) => "the connection was lost",
    }
}

fn told(target: &Target, fate: Fate, status: Status, text: String, reply: Option<&Reply>) -> Told {
    let remote = Some(target.host.clone());
    Told { fate, status, text, remote, said: reply.map(ToString::to_string), takes_dsn: false }
}

pub(crate) fn nothing() -> Told {
    let text = "no host could be tried".to_owned();
    let status = Status::new(4, 4, 1);
    Told { fate: Fate::Later, status, text, remote: None, said: None, takes_dsn: false }
}

pub(crate) fn of_failure(failure: &Failure) -> Told {
    let fate = if failure.is_permanent() { Fate::Never } else { Fate::Later };
    Told { fate, status: failure.status, text: failure.text.clone(), ..nothing() }
}
