//! SEARCH and UID SEARCH (RFC 3501 section 6.4.4, ESEARCH of RFC 4731).

mod matches;

use std::sync::Arc;

use mailcluster_proto_imap::{
    command::{Search, SearchReturn},
    encode,
};
use mailcluster_store::{ReadError, View};
use mailcluster_types::{ModSeq, Uid};
use matches::{Last, Query};

use super::{
    budget::{self, Room},
    fetch::Row,
    reply::{Done, Fail, News, Outcome},
    session::Session,
};

/// Messages looked at in one go.
const PAGE: usize = 500;
/// Widest span of message numbers of one page.
const SPAN: u32 = 2000;
/// Texts read in one go, so that one search does not hold a reading thread for long.
const TEXTS: usize = 50;
/// Numbers written in one go.
const NUMBERS: usize = 1000;

/// A message that was found.
struct Found {
    number: u32,
    uid: Uid,
    modseq: ModSeq,
}

impl Session {
    pub(super) async fn search(&mut self, tag: &str, search: Search) -> Outcome {
        if let Some(charset) = &search.charset
            && !matches!(charset.as_str(), "UTF-8" | "US-ASCII")
        {
            return Err(Fail::no("BADCHARSET (US-ASCII UTF-8)", "this charset is not known here"));
        }
        let modseq = search.keys.iter().any(mailcluster_proto_imap::command::SearchKey::names_modseq);
        self.condstore |= modseq;
        let found = self.find_messages(search.keys).await?;
        let highest = found.iter().map(|found| found.modseq).max().filter(|_| modseq);
        let numbers: Vec<u32> =
            found.iter().map(|found| if search.uid { found.uid } else { found.number }).collect();
        match search.returns {
            Some(returns) => self.esearch(&numbers, (tag, search.uid), returns, highest),
            None => self.search_line(&numbers, highest).await?,
        }
        Ok(Done::new("searched").news(if search.uid { News::All } else { News::NoExpunge }))
    }

    async fn find_messages(
        &mut self,
        keys: Vec<mailcluster_proto_imap::command::SearchKey>,
    ) -> Result<Vec<Found>, Fail> {
        let mailbox = self.mailbox()?;
        let last = Last {
            number: u32::try_from(mailbox.uids.len()).unwrap_or(u32::MAX),
            uid: mailbox.uids.last().copied().unwrap_or(0),
        };
        let query = Arc::new(Query::new(keys, last)?);
        let places: Vec<u32> = (0..last.number)
            .zip(&mailbox.uids)
            .filter(|(place, uid)| query.may_hold(place + 1, **uid))
            .map(|(place, _)| place)
            .collect();
        let mut found = Vec::new();
        let mut rest = places.as_slice();
        while let Some(first) = rest.first() {
            let length = rest.iter().take(PAGE).take_while(|place| *place - first < SPAN).count();
            let (page, after) = rest.split_at(length);
            rest = after;
            let rows = Arc::new(self.rows(page).await?);
            let (mut next, mut room, mut octets): (_, Room, _) = (0, None, budget::SMALL);
            while next < rows.len() {
                let (rows, query) = (rows.clone(), query.clone());
                let read =
                    move |view: &View| look(view, rows.get(next..).unwrap_or_default(), (&query, octets));
                let mut looked = self.context.store.read(read).await?;
                next += looked.rows;
                found.append(&mut looked.found);
                // Given back before more is asked for.
                drop(room.take());
                octets = looked.wants.unwrap_or(budget::SMALL);
                room = budget::going(octets).await?;
            }
        }
        Ok(found)
    }

    /// `* SEARCH 2 5 (MODSEQ 9)`
    async fn search_line(&mut self, numbers: &[u32], highest: Option<ModSeq>) -> Result<(), Fail> {
        self.connection.put(b"* SEARCH");
        for page in numbers.chunks(NUMBERS) {
            for number in page {
                self.connection.put(format!(" {number}").as_bytes());
            }
            self.connection.relieve().await?;
        }
        if let Some(highest) = highest {
            self.connection.put(format!(" (MODSEQ {highest})").as_bytes());
        }
        self.connection.put(b"\r\n");
        Ok(())
    }

    /// `* ESEARCH (TAG "a") UID MIN 2 MAX 9 ALL 2,5:9 COUNT 6 MODSEQ 9`
    fn esearch(
        &mut self,
        numbers: &[u32],
        (tag, uid): (&str, bool),
        returns: SearchReturn,
        highest: Option<ModSeq>,
    ) {
        let out = self.connection.out();
        out.extend_from_slice(b"* ESEARCH (TAG ");
        encode::string(out, tag.as_bytes());
        out.extend_from_slice(if uid { b") UID" } else { b")" });
        if let (Some(min), Some(max)) = (numbers.iter().min(), numbers.iter().max()) {
            if returns.min {
                out.extend_from_slice(format!(" MIN {min}").as_bytes());
            }
            if returns.max {
                out.extend_from_slice(format!(" MAX {max}").as_bytes());
            }
            if returns.all {
                out.extend_from_slice(format!(" ALL {}", encode::set(numbers)).as_bytes());
            }
        }
        if returns.count {
            out.extend_from_slice(format!(" COUNT {}", numbers.len()).as_bytes());
        }
        if let Some(highest) = highest {
            out.extend_from_slice(format!(" MODSEQ {highest}").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What came of looking at rows.
struct Looked {
    rows: usize,
    found: Vec<Found>,
    /// The next row's text has so many octets, more than there is room for.
    wants: Option<u64>,
}

/// Looks at rows until some texts were read, or one comes that is larger than `room`. One text at a time is in memory.
fn look(view: &View, rows: &[Row], (query, room): (&Query, u64)) -> Result<Looked, ReadError> {
    let mut looked = Looked { rows: 0, found: Vec::new(), wants: None };
    let mut texts = 0;
    for Row { number, message, .. } in rows {
        if texts >= TEXTS {
            break;
        }
        let holds = match query.holds(*number, message, None) {
            Some(holds) => holds,
            None if u64::from(message.size) > room => {
                looked.wants = Some(u64::from(message.size));
                break;
            }
            None => {
                texts += 1;
                match view.body(message.body) {
                    Ok(body) => query.holds(*number, message, Some(&query.text(body))).unwrap_or(false),
                    Err(ReadError::NotServing) => return Err(ReadError::NotServing),
                    // What is gone or damaged has no text to be found.
                    Err(error) => {
                        tracing::warn!(uid = message.uid, %error, "message left out of a search");
                        false
                    }
                }
            }
        };
        looked.rows += 1;
        if holds {
            looked.found.push(Found { number: *number, uid: message.uid, modseq: message.modseq });
        }
    }
    Ok(looked)
}
