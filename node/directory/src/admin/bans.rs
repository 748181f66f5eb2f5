//! Bans that administrators look at, make and lift.

use std::time::Duration;

use mailcluster_rpc::{admin::v1 as pb, directory::v1::ScreeningBan};
use mailcluster_screen::{Ban, Cidr, Reason};

use crate::{AdminError, DirectoryService, screening};

/// Longest ban, in seconds: what shall last for ever belongs on the block list.
const LONGEST: u64 = 400 * 86_400;

impl DirectoryService {
    /// Who is refused, and which accounts are under attack.
    pub(crate) fn list_bans(&self) -> Result<pb::ListBansResponse, AdminError> {
        let (bans, slowed) = self.screens()?.standing();
        Ok(pb::ListBansResponse {
            bans: bans.into_iter().map(screening::ban_to_pb).collect(),
            slowed: slowed.into_iter().map(screening::slowed_to_pb).collect(),
        })
    }

    /// Bans a network.
    pub(crate) async fn add_ban(
        &self,
        who: &str,
        asked: &pb::AddBanRequest,
    ) -> Result<ScreeningBan, AdminError> {
        let network = network(&asked.network)?;
        if !(1..=LONGEST).contains(&asked.seconds) {
            return Err(AdminError::Invalid(format!("a ban lasts 1 to {LONGEST} seconds")));
        }
        let remaining = Duration::from_secs(asked.seconds);
        let screening = self.screens()?;
        self.change(who, format!("ban {network} for {} s", asked.seconds), async {
            screening
                .ban(network, remaining)
                .map_err(|error| AdminError::Refused(format!("{network}: {error}")))
        })
        .await?;
        Ok(screening::ban_to_pb(Ban { network, remaining, reason: Reason::Administrator }))
    }

    /// Lifts a ban.
    pub(crate) async fn remove_ban(&self, who: &str, asked: &str) -> Result<(), AdminError> {
        let network = network(asked)?;
        let screening = self.screens()?;
        self.change(who, format!("ban of {network} removed"), async {
            let lifted = screening.lift(network);
            if lifted { Ok(()) } else { Err(AdminError::NotFound(format!("{network} is not banned"))) }
        })
        .await
    }

    fn screens(&self) -> Result<&screening::Screening, AdminError> {
        self.screening().ok_or_else(|| AdminError::Refused("screening is off".into()))
    }
}

/// An IPv6 address stands for the /64 by which clients are counted.
fn network(text: &str) -> Result<Cidr, AdminError> {
    let network: Cidr = text.parse().map_err(|error| AdminError::Invalid(format!("{error}")))?;
    Ok(if text.contains('/') { network } else { Cidr::address(network.first()) })
}
