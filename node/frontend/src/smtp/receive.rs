//! DATA: reading the message, and what its sender is told.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mailcluster_dkim::BodyHash;
use mailcluster_lmtp::WireError;
use mailcluster_proto_smtp::{DataDecoder, DataFault, Progress, Reply};
use tokio::time::{Instant, timeout};

use super::{
    checked::Came,
    deliver::{self, Job, Verdict},
    envelope::{Envelope, unix_ms},
    header::{self, Header, MAX_HEADER, Trace},
    metrics,
    rate::RateWindow,
    session::{End, OUT_OF_ORDER, Session},
    spool::{Message, Spool},
};

/// Room made for each read of message data.
const ROOM: usize = 16 << 10;
/// Memory of a header section that is not counted against that of all messages: usual mail comes in even when
/// others fill it with headers that never end. It is bounded by the number of connections.
const SMALL_HEADER: usize = 16 << 10;
/// The final dot is answered within this (RFC 5321 section 4.5.3.2.6 lets clients wait 10 minutes).
const ANSWER: std::time::Duration = std::time::Duration::from_secs(240);

/// A message as it comes in: the header section in memory, the rest in the spool.
struct Intake {
    header: BytesMut,
    /// Octets of the header that were looked at, whole lines.
    scanned: usize,
    header_done: bool,
    /// The header is followed by an empty line.
    parted: bool,
    /// Of what follows the header, where it will be signed.
    hash: Option<BodyHash>,
    spool: Spool,
    refused: Option<(Reply, &'static str)>,
}

impl Session {
    pub(super) async fn data(&mut self) -> Result<Reply, End> {
        match &self.envelope {
            None => return Ok(OUT_OF_ORDER),
            Some(envelope) if envelope.items.is_empty() => {
                return Ok(Reply::new(554, "5.5.1 no valid recipients"));
            }
            Some(_) => {}
        }
        let Some(mut envelope) = self.envelope.take() else { return Ok(OUT_OF_ORDER) };
        self.wire.answer(&Reply::new(354, "go ahead, end with a dot")).await?;
        let intake = self.receive().await?;
        let id = envelope.id;
        match self.finish(&mut envelope, intake).await {
            Err(refused) => {
                tracing::info!(%id, session = %self.client.session, reply = %refused.0, "message refused");
                Ok(self.refuse(refused))
            }
            Ok(message) => self.accept(envelope, message).await,
        }
    }

    /// Reads to the end of the message, whatever is wrong with it.
    async fn receive(&mut self) -> Result<Intake, End> {
        let limits = self.context.limits.clone();
        let mut intake = Intake::new(Spool::new(limits.spool_memory, limits.spool_dir.clone()));
        intake.hash = self.account.is_some().then(BodyHash::default);
        let mut decoder = DataDecoder::new(limits.max_message);
        let mut rate = RateWindow::new(Instant::now(), limits.min_data_rate);
        let mut octets = BytesMut::new();
        while decoder.feed(self.wire.input(), &mut octets) == Progress::More {
            intake.take(&mut octets, decoder.fault().is_none()).await;
            if decoder.received() > limits.max_message.saturating_mul(2) + (1 << 20) {
                self.wire.answer(&Reply::new(421, "4.3.0 this message has no end")).await?;
                return Err(End::Told("message too large by far"));
            }
            let deadline = (Instant::now() + limits.smtp_idle).min(rate.ends());
            match self.wire.fill(deadline, ROOM).await {
                Err(WireError::Timeout) if Instant::now() >= rate.ends() => {}
                result => {
                    result?;
                }
            }
            if !rate.is_fast_enough(Instant::now(), decoder.received()) {
                self.wire.answer(&Reply::new(421, "4.4.2 message data too slow")).await?;
                return Err(End::Told("message data too slow"));
            }
        }
        intake.take(&mut octets, decoder.fault().is_none()).await;
        if let Some(fault) = decoder.fault() {
            intake.refused = Some(fault_reply(fault));
        }
        Ok(intake)
    }

    /// Judges the whole message and gives it its trace.
    async fn finish(
        &self,
        envelope: &mut Envelope,
        intake: Intake,
    ) -> Result<Message, (Reply, &'static str)> {
        if let Some(refused) = intake.refused {
            return Err(refused);
        }
        let header = Header::parse(&intake.header);
        if header.is_loop() {
            return Err((Reply::new(554, "5.4.6 too many hops, this mail goes in circles"), "loop"));
        }
        let message = intake.spool.finish(Bytes::new()).await.map_err(|error| {
            tracing::error!(%error, "spool failed");
            no_spool()
        })?;
        let came = Came { header: &intake.header, text: &message, parted: intake.parted };
        let checks = self.judge(envelope, came).await?;
        let hello = self.hello.as_ref();
        let trace = Trace {
            service: self.service,
            client: &self.client,
            sender: &envelope.sender,
            hello: hello.map_or("unknown", |h| h.name.as_str()),
            extended: hello.is_some_and(|h| h.extended),
            authenticated: self.account.is_some(),
            utf8: envelope.utf8,
            hostname: &self.context.hostname,
            id: envelope.id,
            only: match envelope.recipients.as_slice() {
                [only] => Some(only.as_str()),
                _ => None,
            },
            at: i64::try_from(unix_ms() / 1000).unwrap_or(0),
        };
        let mut head = BytesMut::from(header.rewrite(&trace, &checks));
        if let (Some(account), Some(body)) = (&self.account, intake.hash) {
            let domain = self.answerable(account, &header, &envelope.sender).await?;
            self.count(account, &envelope.items).await?;
            let bare = head.clone().freeze();
            let signed = self.signatures(&domain, bare, (body.finish(), trace.at)).await?;
            head = [&signed[..], &head].concat().as_slice().into();
        }
        // A message that has no empty line after its header gets one, so that no text is taken for a field.
        if !intake.parted {
            head.extend_from_slice(b"\r\n");
        }
        Ok(message.with_head(head.freeze()))
    }

    /// Delivers, and says what became of it.
    async fn accept(&mut self, envelope: Envelope, message: Message) -> Result<Reply, End> {
        let (id, service, session) = (envelope.id, self.service.label(), self.client.session);
        let size = mailcluster_lmtp::Body::size(&message);
        let recipients = envelope.recipients.len();
        let job = Job { envelope: envelope.lmtp(size), items: envelope.items, body: Arc::new(message) };
        let verdict = timeout(ANSWER, deliver::deliver(&mut self.stores, &job)).await;
        match verdict.unwrap_or(Verdict::Silence) {
            Verdict::Accepted { handed_off } => {
                metrics::accepted(service);
                let (junk, met) = (job.envelope.checked.junk, &job.envelope.checked.met);
                tracing::info!(%id, %session, service, size, recipients, handed_off, junk, %met, "message accepted");
                Ok(Reply::with(250, format!("2.0.0 accepted id={id}")))
            }
            Verdict::Never(reply) => {
                tracing::info!(%id, %session, service, %reply, "message refused by every store");
                Ok(self.refuse((reply, "refused_by_store")))
            }
            Verdict::Later => {
                tracing::warn!(%id, %session, service, "no durable place for a message");
                Ok(self.refuse((
                    Reply::new(451, "4.3.0 no place for this message now, try again"),
                    "not_durable",
                )))
            }
            Verdict::Silence => {
                tracing::warn!(%id, %session, service, "closing without a reply: the outcome is unknown");
                Err(End::Silence)
            }
        }
    }
}

impl Intake {
    fn new(spool: Spool) -> Self {
        Self {
            header: BytesMut::new(),
            scanned: 0,
            header_done: false,
            parted: false,
            hash: None,
            spool,
            refused: None,
        }
    }

    /// Takes what was decoded; after a refusal it is thrown away.
    async fn take(&mut self, octets: &mut BytesMut, whole: bool) {
        if !whole || self.refused.is_some() {
            octets.clear();
            return;
        }
        let mut body_from = 0;
        if !self.header_done {
            let before = self.header.capacity().max(SMALL_HEADER);
            self.header.extend_from_slice(octets);
            octets.clear();
            if !self.spool.count(self.header.capacity().saturating_sub(before)) {
                return self.refuse(no_spool());
            }
            if let Some(end) = header::end_of_header(&self.header, &mut self.scanned) {
                self.header_done = true;
                *octets = self.header.split_off(end);
                self.parted = octets.starts_with(b"\r\n");
                body_from = if self.parted { 2 } else { 0 };
            } else if self.header.len() > MAX_HEADER {
                self.refuse((Reply::new(552, "5.3.4 message header too large"), "too_large"));
            }
        }
        if let Some(hash) = self.hash.as_mut().filter(|_| self.header_done) {
            hash.update(&octets[body_from..]);
        }
        if self.header_done
            && !octets.is_empty()
            && let Err(error) = self.spool.write(octets).await
        {
            tracing::error!(%error, "spool failed");
            self.refuse(no_spool());
        }
    }

    /// Gives back what is held: the rest may take long to come.
    fn refuse(&mut self, refused: (Reply, &'static str)) {
        self.header = BytesMut::new();
        self.spool.discard();
        self.refused = Some(refused);
    }
}

pub(super) fn no_spool() -> (Reply, &'static str) {
    (Reply::new(452, "4.3.1 no room for this message now"), "spool")
}

fn fault_reply(fault: DataFault) -> (Reply, &'static str) {
    match fault {
        DataFault::BareNewline => (Reply::new(550, "5.6.11 bare CR or LF in message"), "malformed"),
        DataFault::Nul => (Reply::new(550, "5.6.0 NUL in message"), "malformed"),
        DataFault::LineTooLong => (Reply::new(550, "5.6.0 line too long in message"), "malformed"),
        DataFault::TooLarge => (Reply::new(552, "5.3.4 message too large"), "too_large"),
    }
}
