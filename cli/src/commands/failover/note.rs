//! A line in the directory's audit log about what is asked of the operator.

use std::time::Duration;

use mailcluster_rpc::admin::v1 as pb;

use crate::{connect::Cluster, failure::Failure};

/// Longest wait for the directory. It may be the very store that is away: it must not hold the request back.
const LIMIT: Duration = Duration::from_secs(5);

/// What is still to be noted.
#[must_use = "call finish: the directory may not have taken it yet"]
pub struct Note {
    open: Option<String>,
}

impl Note {
    /// Has the directory note `what`, before it is asked. When the directory is away the request goes on, and
    /// [`Note::finish`] tries again.
    pub async fn write(cluster: &Cluster, what: String) -> Self {
        match tell(cluster, &what).await {
            Ok(()) => Self { open: None },
            Err(_) => Self { open: Some(what) },
        }
    }

    /// Tries once more when the directory was away, and says so when it still is.
    pub async fn finish(self, cluster: &Cluster) {
        if let Some(what) = self.open
            && let Err(error) = tell(cluster, &what).await
        {
            eprintln!("warning: `{what}` is not in the audit log: {error}");
        }
    }
}

async fn tell(cluster: &Cluster, what: &str) -> Result<(), Failure> {
    let telling = async {
        let asked = pb::NoteRequestRequest { what: what.to_owned() };
        cluster.admin().await?.note_request(asked).await?;
        Ok(())
    };
    let late = || Failure::Unavailable("the directory does not answer".into());
    tokio::time::timeout(LIMIT, telling).await.unwrap_or_else(|_| Err(late()))
}
