//! One recipient's waiting. The transitions are pure; the queue's records carry what they answer.

/// Seconds in an hour.
const HOUR: i64 = 3600;

/// Pauses between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt, in seconds.
    pub first: u32,
    /// Longest, in seconds.
    pub limit: u32,
}

impl Default for Backoff {
    /// Five minutes, which most greylists are content with, up to somewhat over an hour.
    fn default() -> Self {
        Self { first: 300, limit: 4000 }
    }
}

impl Backoff {
    /// The pause after so many attempts: doubled each time up to the limit, and then up to a quarter shorter as `draw`
    /// (any number, drawn evenly) says, so that what failed together does not come back together.
    #[must_use]
    pub fn pause(self, attempts: u32, draw: u32) -> i64 {
        let doubled = u64::from(self.first.max(1)).checked_shl(attempts.saturating_sub(1).min(32));
        let whole = doubled.unwrap_or(u64::MAX).min(u64::from(self.limit.max(1)));
        let less = (whole / 4).saturating_mul(u64::from(draw)) >> 32;
        i64::try_from(whole - less).unwrap_or(i64::MAX)
    }
}

/// How long mail may wait, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// For mail with a sender. RFC 5321 section 4.5.4.1 asks for 4 to 5 days at least.
    pub mail: i64,
    /// For reports, which have none: nobody would be told anyway.
    pub report: i64,
    /// The sender is told of the delay after so long, once.
    pub notice: i64,
}

impl Default for Lifetime {
    fn default() -> Self {
        Self { mail: 5 * 24 * HOUR, report: 24 * HOUR, notice: 4 * HOUR }
    }
}

impl Lifetime {
    /// When mail that was queued then is given up.
    #[must_use]
    pub fn ends(self, queued_at: i64, null_sender: bool) -> i64 {
        queued_at.saturating_add(if null_sender { self.report } else { self.mail })
    }
}

/// A recipient's waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wait {
    /// Attempts so far.
    pub attempts: u32,
    /// Not tried before (seconds since 1970).
    pub next_attempt: i64,
    /// Not tried until released; does not grow too old meanwhile.
    pub held: bool,
    /// The sender was told of the delay.
    pub noticed: bool,
}

/// What is to be done about a recipient now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing, until somebody releases it.
    Held,
    /// Give it up: the sender is told that it failed.
    Expired,
    /// Tell the sender that it is delayed; then ask again.
    Notice,
    /// Try it.
    Due,
    /// Nothing before this time.
    Later(i64),
}

impl Wait {
    /// What is to be done at `now`. A sender is told of a delay only when there was an attempt: mail that nobody has
    /// tried is not late because of its destination.
    #[must_use]
    pub fn fate(self, life: Lifetime, queued_at: i64, null_sender: bool, now: i64) -> Fate {
        let late = queued_at.saturating_add(life.notice);
        let tells = !self.noticed && !null_sender && self.attempts > 0;
        if self.held {
            Fate::Held
        } else if now >= life.ends(queued_at, null_sender) {
            Fate::Expired
        } else if tells && now >= late {
            Fate::Notice
        } else if now >= self.next_attempt {
            Fate::Due
        } else {
            let next = self.next_attempt.min(life.ends(queued_at, null_sender));
            Fate::Later(if tells { next.min(late) } else { next })
        }
    }

    /// The mark that is made before an attempt: when nothing more is heard of it, it is tried again after the pause.
    #[must_use]
    pub fn attempted(self, backoff: Backoff, now: i64, draw: u32) -> Self {
        let attempts = self.attempts.saturating_add(1);
        Self { attempts, next_attempt: now.saturating_add(backoff.pause(attempts, draw)), ..self }
    }

    /// Somebody stops it.
    #[must_use]
    pub fn hold(self) -> Self {
        Self { held: true, ..self }
    }

    /// Somebody lets it go on: it is due.
    #[must_use]
    pub fn release(self, now: i64) -> Self {
        if self.held { Self { held: false, next_attempt: now, ..self } } else { self }
    }

    /// Somebody wants it tried now; what is held stays so, and no pause grows shorter for it.
    #[must_use]
    pub fn flush(self, now: i64) -> Self {
        if self.held { self } else { Self { next_attempt: self.next_attempt.min(now), ..self } }
    }

    /// As if it had just come: due, and its pauses begin anew. Its age stays, and a sender is not told twice.
    #[must_use]
    pub fn requeue(self, now: i64) -> Self {
        Self { attempts: 0, next_attempt: now, held: false, ..self }
    }
}
