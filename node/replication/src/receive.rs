//! The mirror's side of a snapshot.

use mailcluster_rpc::mirror::v1::{Has, Installed, Received, Snapshot, from_mirror, from_primary};
use mailcluster_store::{FollowError, Follower, Incoming, Link, Offer};
use mailcluster_types::Epoch;
use tonic::Status;

use crate::{
    service::{Fed, blocking, out_of_place},
    standby::Copied,
};

impl Fed {
    /// Takes a snapshot, file by file, and puts it in the place of what is here.
    pub(crate) async fn receive(&mut self, snapshot: Snapshot) -> Result<(), Status> {
        let offer = offer(snapshot)?;
        let mut incoming = self.on(move |follower, epoch| follower.receive(epoch, offer)).await?;
        loop {
            self.tell(&incoming);
            incoming = match self.next().await? {
                Some(from_primary::Message::File(file)) => {
                    let incoming = self.with(incoming, move |i| i.begin(file.name, file.octets)).await?.0;
                    self.check(incoming).await?
                }
                Some(from_primary::Message::Piece(piece)) => {
                    self.with(incoming, move |i| i.write(piece.offset, &piece.data, piece.crc)).await?.0
                }
                Some(from_primary::Message::FileEnd(end)) => {
                    let incoming = self.with(incoming, move |i| i.end(end.crc)).await?.0;
                    self.say_received(incoming.progress()).await?;
                    incoming
                }
                Some(from_primary::Message::SnapshotEnd(_)) => return self.install(incoming).await,
                Some(_) => return Err(out_of_place()),
                None => return Ok(()),
            };
        }
    }

    /// Says what is here already of the file that comes.
    async fn check(&self, mut incoming: Incoming) -> Result<Incoming, Status> {
        loop {
            let (back, checked) = self.with(incoming, Incoming::check).await?;
            incoming = back;
            if let Some((octets, crc)) = checked {
                self.say(from_mirror::Message::Has(Has { octets, crc })).await?;
                return Ok(incoming);
            }
            self.tell(&incoming);
            self.say_received(incoming.progress()).await?;
        }
    }

    async fn install(&self, incoming: Incoming) -> Result<(), Status> {
        let (standby, stream) = (self.standby.clone(), self.stream);
        blocking(move || standby.install(stream, incoming)).await?;
        self.say(from_mirror::Message::Installed(Installed {})).await
    }

    async fn say_received(&self, (octets, _): (u64, u64)) -> Result<(), Status> {
        self.say(from_mirror::Message::Received(Received { octets })).await
    }

    fn tell(&self, incoming: &Incoming) {
        let (octets, of) = incoming.progress();
        self.standby.has_copied(self.stream, Some(Copied { octets, of }));
    }

    /// Does something with what is here of a snapshot, if this stream may still write.
    async fn with<T: Send + 'static>(
        &self,
        mut incoming: Incoming,
        work: impl FnOnce(&mut Incoming) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<(Incoming, T), Status> {
        self.on(move |_, _| {
            let done = work(&mut incoming)?;
            Ok((incoming, done))
        })
        .await
    }

    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Follower, Epoch) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<T, Status> {
        let (standby, stream) = (self.standby.clone(), self.stream);
        blocking(move || standby.on(stream, work)).await
    }
}

fn offer(snapshot: Snapshot) -> Result<Offer, Status> {
    let at = snapshot.at.ok_or_else(out_of_place)?;
    let at = Link { epoch: at.epoch, seq: at.seq, crc: at.crc };
    let Snapshot { id, files, octets, contiguous_from, .. } = snapshot;
    Ok(Offer { id, at, files, octets, contiguous_from })
}
