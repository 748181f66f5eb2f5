//! Screening's messages.

use std::time::Duration;

use mailcluster_rpc::directory::v1 as pb;
use mailcluster_screen::{Ban, Cidr, Kind, LONGEST_ACCOUNT, News, Observation, Reason, Slowed};

use super::Told;

/// Good addresses of an account that are read.
const GOOD: usize = 64;

pub(crate) fn observation_to_pb(seen: Observation) -> pb::ScreeningObservation {
    pb::ScreeningObservation {
        client: seen.client.to_string(),
        kind: seen.kind.label().to_owned(),
        account: seen.account,
        count: seen.count,
    }
}

/// `None`: not understood; a newer frontend may know more.
pub(crate) fn observation_from_pb(seen: pb::ScreeningObservation) -> Option<Observation> {
    let network: Cidr = seen.client.parse().ok()?;
    // As one client is counted, whatever was said.
    let client = Cidr::address(network.first());
    let account = Some(seen.account).filter(|account| account.len() <= LONGEST_ACCOUNT).unwrap_or_default();
    Some(Observation { client, kind: Kind::from_label(&seen.kind)?, account, count: seen.count })
}

pub(crate) fn ban_to_pb(ban: Ban) -> pb::ScreeningBan {
    pb::ScreeningBan {
        network: ban.network.to_string(),
        remaining_ms: millis(ban.remaining),
        reason: ban.reason.label().to_owned(),
    }
}

/// `None`: no network.
pub(crate) fn ban_from_pb(ban: &pb::ScreeningBan) -> Option<Ban> {
    Some(Ban {
        network: ban.network.parse().ok()?,
        remaining: Duration::from_millis(ban.remaining_ms),
        reason: Reason::from_label(&ban.reason).unwrap_or(Reason::Abuse),
    })
}

pub(crate) fn slowed_to_pb(slowed: Slowed) -> pb::SlowedAccount {
    pb::SlowedAccount {
        account: slowed.account,
        delay_ms: millis(slowed.delay),
        remaining_ms: millis(slowed.remaining),
        good: slowed.good.iter().map(Cidr::to_string).collect(),
    }
}

fn slowed_from_pb(slowed: pb::SlowedAccount) -> Slowed {
    Slowed {
        account: slowed.account,
        delay: Duration::from_millis(slowed.delay_ms),
        remaining: Duration::from_millis(slowed.remaining_ms),
        good: slowed.good.iter().take(GOOD).filter_map(|good| good.parse().ok()).collect(),
    }
}

pub(crate) fn told_to_pb(told: Told) -> pb::ScreeningNews {
    let mut message =
        pb::ScreeningNews { instance: told.instance, reset: told.is_everything, ..Default::default() };
    for news in told.news {
        match news {
            News::Banned(ban) => message.bans.push(ban_to_pb(ban)),
            News::Lifted(network) => message.lifted.push(network.to_string()),
            News::Slowed(slowed) => message.slowed.push(slowed_to_pb(slowed)),
        }
    }
    message
}

pub(crate) fn told_from_pb(message: pb::ScreeningNews) -> Told {
    let bans = message.bans.iter().filter_map(ban_from_pb).map(News::Banned);
    let lifted = message.lifted.iter().filter_map(|network| network.parse().ok()).map(News::Lifted);
    let slowed = message.slowed.into_iter().map(slowed_from_pb).map(News::Slowed);
    let news = lifted.chain(bans).chain(slowed).collect();
    Told { instance: message.instance, is_everything: message.reset, news }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
