//! A primary's in-sync set: who is let in, who is left out, and who takes over after it.

use std::{collections::BTreeSet, time::Duration};

use futures::FutureExt;

use mailcluster_failover::{
    Demotion, Millis,
    mirror::{self, Change, Member, MembersView},
};
use mailcluster_replication::Heard;
use mailcluster_store::Store;

use super::{
    Life, LifecycleConfig,
    settle::ids,
    term::{Noted, Term},
};
use crate::clock::boottime;

impl Life {
    /// Changes the in-sync set, if it is to change, by one swap of the lease.
    pub(super) async fn mind_members(&self, term: &mut Term) -> Result<(), Demotion> {
        let set = term.progress.in_sync();
        if set.is_changing() {
            // The next renewal tells what became of it.
            return Ok(());
        }
        let me = self.config.identity.replica.to_string();
        let (mirrors, waiting) = (mirrors(term), waiting(term));
        let named: BTreeSet<String> = self.config.peers.all().into_iter().collect();
        let timeout = millis(self.config.mirror_timeout);
        let kept_out = term.probation.kept_out(timeout, boottime());
        let change = mirror::change(&MembersView {
            me: &me,
            members: set.members(),
            named: &named,
            min: self.config.rules().min_in_sync(),
            needed: term.progress.needed(),
            mirrors: &mirrors,
            waiting,
            timeout,
            kept_out: &kept_out,
            is_heard: self.is_heard(term),
        });
        let version = term.record.in_sync_version;
        let Some(change) = change else {
            self.note(term, (version, set.members().clone()));
            return Ok(());
        };
        let members = change.applied(set.members());
        // The log of one that is alone names a mirror before the lease does: recovery takes what it finds there for committed
        // where nobody else is named. With several, the note could wait for the very one that is to be left out.
        let is_alone = set.members().len() == 1;
        if is_alone && members != *set.members() && !self.note(term, (version, members.clone())) {
            return Ok(());
        }
        if !term.progress.begin_change(members.clone()) {
            return Ok(());
        }
        if let Change::Shrink(out) = &change {
            term.probation.note(out.intersection(&named), boottime());
        }
        tracing::info!(?change, waiting_ms = waiting.map(|(_, span)| span), "the in-sync set changes");
        let mut next = term.record.clone();
        next.position = term.committed();
        next.in_sync = members.into_iter().collect();
        next.in_sync_version += 1;
        self.write(term, next).await.map(drop)
    }

    /// Was anybody heard who could tell that this primary is not the one that is cut off (B5)? One that settles has
    /// just been chosen, and is known to no frontend yet.
    fn is_heard(&self, term: &Term) -> bool {
        term.settling.is_some() || self.hears(term)
    }

    /// Was a frontend or a mirror heard within D?
    fn hears(&self, term: &Term) -> bool {
        let span = self.config.lease();
        self.status.heard_within(span) || term.progress.heard().values().any(|heard| heard.is_within(span))
    }

    /// Notes that somebody is heard, if so: while it settles, too, or one that was cut off meanwhile would renew for ever.
    pub(super) fn listen(&self, term: &mut Term) {
        if self.hears(term) {
            term.heard_at = Some(boottime());
        }
    }

    /// Is this the one that is cut off, while a mirror could serve?
    pub(super) fn is_isolated(&self, term: &Term) -> bool {
        // It was not heard for D before this counts.
        let unheard_for = term.heard_at.map(|at| boottime().saturating_sub(at));
        mirror::is_isolated(term.progress.in_sync().members().len(), unheard_for, self.config.lease_ms())
    }

    /// Does the disk not answer, while a mirror could serve? It may never fail, and what waits for it would wait for ever.
    pub(super) fn hangs(&self, term: &Term) -> bool {
        let hangs =
            |store: &Store| store.stats().at_disk_for().is_some_and(|span| span >= self.config.lease());
        term.store.as_ref().is_some_and(hangs) && heir(term, &self.config, None).is_some()
    }

    /// Tells the log of the in-sync set; `true` when it has it. Nothing is noted before the store serves.
    fn note(&self, term: &mut Term, set: Noted) -> bool {
        if let Some(done) = term.noting.take_if(|noting| noting.is_finished()) {
            term.noted = done.now_or_never().and_then(Result::ok).flatten().or(term.noted.take());
        }
        if term.noted.as_ref() == Some(&set) {
            let (version, named) = (set.0, ids(&set.1));
            self.status.update(|status| {
                if let Some(described) = &mut status.description {
                    described.in_sync_version = described.in_sync_version.max(version);
                    described.in_sync = named;
                }
            });
            return true;
        }
        if let (Some(store), None) = (term.store.clone(), &term.noting) {
            let ids = ids(&set.1);
            term.noting = Some(tokio::spawn(async move {
                let noted = store.note_in_sync(set.0, &ids).await;
                noted
                    .inspect_err(|error| tracing::debug!(%error, "the in-sync set was not noted"))
                    .ok()
                    .map(|()| set)
            }));
        }
        false
    }
}

/// The mirrors as the decision wants to see them.
fn mirrors(term: &Term) -> Vec<Member> {
    let member = |(id, heard): (String, Heard)| Member {
        id,
        confirmed: Some(heard.synced),
        apply_lag: heard.level.map_or(Millis::MAX, |level| millis(level.elapsed())),
    };
    term.progress.heard().into_iter().map(member).collect()
}

/// What clients wait for, or the replica itself while it settles.
fn waiting(term: &Term) -> Option<(u64, Millis)> {
    let settling = term.settling.map(|(seq, since)| (seq, since.elapsed()));
    let (seq, span) = settling.or_else(|| term.progress.waiting())?;
    Some((seq, millis(span)))
}

/// The mirror that a holder gives the store to: of the in-sync set, heard within half of D; the one that is `wanted`, or
/// with the most applied.
pub(super) fn heir(term: &Term, config: &LifecycleConfig, wanted: Option<String>) -> Option<String> {
    let (me, needed) = (config.identity.replica.to_string(), term.progress.needed());
    let heard = term.progress.heard();
    let fit = heard.iter().filter(|(id, heard)| {
        **id != me
            && term.record.in_sync.contains(*id)
            && heard.synced >= needed
            && heard.is_within(config.lease() / 2)
    });
    fit.max_by_key(|(id, heard)| (wanted.as_ref() == Some(*id), heard.applied)).map(|(id, _)| id.clone())
}

/// A span, as the decisions count it.
pub(super) fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}
