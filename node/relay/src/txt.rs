//! TXT records.

use hickory_resolver::proto::rr::{RData, RecordType};
use mailcluster_outbound::route::Answer;

use crate::Resolver;

impl Resolver {
    /// The texts at a name, each in one piece (RFC 7208 section 3.3, RFC 6376 section 3.6.2.2).
    pub async fn texts(&self, name: &str) -> Answer<String> {
        let pick = |data: &RData| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        self.look_up(name, RecordType::TXT, pick).await.0
    }
}
