//! Batches from a mirror, for a primary whose own are damaged: the primary's side.

use std::time::Duration;

use mailcluster_failover::{
    Position,
    mirror::{AskView, EpochEntry, LogShape, askable},
};
use mailcluster_rpc::mirror::v1::{
    Lent, Link as LinkMessage, Wanted as Ask, lent, mirror_client::MirrorClient,
};
use mailcluster_store::{Fetched, Identity, LoggedBatch, Wanted};
use mailcluster_types::Epoch;
use tonic::{Code, Status, transport::Channel};

use crate::{
    progress::Progress,
    wire::{Assembly, OutOfPlace, entry},
};

/// How long a mirror may take to hand a batch over.
const IN_TIME: Duration = Duration::from_secs(5);
/// Largest message: a part of a batch, with what is around it.
const LARGEST: usize = 1 << 20;

impl Progress {
    /// Which mirrors have this record for certain, by what this primary has heard at its epoch.
    #[must_use]
    pub fn askable(&self, wanted: Position) -> Vec<String> {
        let (epochs, written) = self.log();
        let own: Vec<EpochEntry> = epochs.iter().map(entry).collect();
        let end = Position { epoch: own.last().map_or(0, |last| last.epoch), seq: written };
        let (in_sync, heard) = (self.in_sync(), self.heard());
        let effective = in_sync.effective();
        let effective: Vec<&str> = effective.iter().map(|id| &**id).collect();
        let applied: Vec<(&str, u64)> =
            heard.iter().map(|(id, heard)| (id.as_str(), heard.applied)).collect();
        let own = LogShape { epochs: &own, end };
        askable(&AskView { me: self.me(), own, effective: &effective, applied: &applied, wanted })
    }
}

/// Asks one mirror for a batch. What comes is believed by nobody before its link was compared.
pub async fn borrow(channel: Channel, (identity, epoch): (&Identity, Epoch), wanted: &Wanted) -> Fetched {
    match tokio::time::timeout(IN_TIME, ask(channel, (identity, epoch), wanted)).await {
        Ok(Ok(batch)) => Fetched::Batch(batch),
        Ok(Err(status)) => {
            tracing::info!(store = %identity.store, %status, "a mirror does not lend a record");
            refused(&status)
        }
        Err(_) => Fetched::NoAnswer,
    }
}

/// What it means that a batch is not lent.
pub(crate) fn refused(status: &Status) -> Fetched {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => Fetched::NoAnswer,
        _ => Fetched::Nowhere,
    }
}

async fn ask(
    channel: Channel,
    (identity, epoch): (&Identity, Epoch),
    wanted: &Wanted,
) -> Result<LoggedBatch, Status> {
    let link = LinkMessage { epoch: wanted.link.epoch, seq: wanted.link.seq, crc: wanted.link.crc };
    let ask = Ask {
        cluster: identity.cluster.to_string(),
        store: identity.store.to_string(),
        epoch,
        first: wanted.first,
        link: Some(link),
    };
    let mut client = MirrorClient::new(channel).max_decoding_message_size(LARGEST);
    let mut parts = client.lend(ask).await?.into_inner();
    let mut assembly = Assembly::default();
    while let Some(part) = parts.message().await? {
        if let Some(batch) = take(&mut assembly, part, wanted.most)? {
            return Ok(batch);
        }
    }
    Err(Status::data_loss("the batch ends early"))
}

/// One part; the batch, when it is complete. No more is taken than the batch has.
fn take(assembly: &mut Assembly, part: Lent, most: usize) -> Result<Option<LoggedBatch>, Status> {
    let fits = |length: u32| usize::try_from(length).is_ok_and(|length| length <= most);
    let taken = match part.message {
        Some(lent::Message::Batch(head)) if fits(head.length) => assembly.begin(head),
        Some(lent::Message::More(part)) => assembly.more(&part),
        _ => Err(OutOfPlace),
    };
    let taken = taken.map_err(|error| Status::data_loss(error.to_string()))?;
    Ok(taken.map(|(batch, _)| batch))
}
