//! IDLE (RFC 2177).

use mailcluster_proto_imap::Event;

use super::{
    connection::Incoming,
    reply::{Done, Fail, News, Outcome},
    session::Session,
};

impl Session {
    pub(super) async fn idle(&mut self) -> Outcome {
        let pending = self.look().await?;
        self.connection.put(b"+ idling\r\n");
        self.tell(pending, News::All);
        self.connection.decoder.expect_line();
        let limit = self.idle_limit();
        loop {
            let watched = self.selected.as_mut().map(|selected| &mut selected.watch);
            match self.connection.next(limit, watched).await? {
                Incoming::Changed => {
                    let pending = self.look().await?;
                    self.tell(pending, News::All);
                }
                Incoming::Event(Event::Line(line)) if line.eq_ignore_ascii_case(b"DONE") => {
                    return Ok(Done::new("done idling"));
                }
                Incoming::Event(_) => return Err(Fail::bad("expected DONE")),
            }
        }
    }
}
