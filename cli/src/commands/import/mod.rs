//! `import`: mail from Maildirs and mbox files, many accounts at once.

mod server;
mod ticket;
mod told;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use mailcluster_import::{Event, Job, Progress, Work, imap::Server};

use super::{admin, input};
use crate::{
    args::{Global, Import},
    failure::Failure,
    job_list,
    output::{self, Format},
};
use ticket::Tickets;
use told::{Counts, Failed};

/// An account that does not get on for this long is given up; a failover is over long before.
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn run(asked: Import, global: &Global) -> Result<(), Failure> {
    let jobs = jobs(&asked)?;
    let server = server::find(&asked)?;
    // First of all: is there anybody to ask?
    let tickets = Tickets::new(admin(global).await?, global, tokio::runtime::Handle::current());
    let out = global.output;
    let started = Instant::now();
    let (counts, failed) = tokio::task::block_in_place(|| {
        server.connect().map_err(|error| Failure::Unavailable(error.to_string()))?;
        Ok::<_, Failure>(all(&jobs, &server, &tickets, (&asked, out)))
    })?;
    told::end(&counts, &failed, started, out);
    if failed.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{} of {} accounts were not brought whole; the same command goes on with them",
        failed.len(),
        jobs.len()
    );
    Err(Failure::Failed(text))
}

fn jobs(asked: &Import) -> Result<Vec<Job>, Failure> {
    let Import { account, source, list, mailbox, .. } = asked;
    match (account, source, list) {
        (_, _, Some(list)) => {
            let read = job_list::read(input::open(list)?, mailbox);
            read.map_err(|e| Failure::Failed(format!("{}: {e}; nothing was imported", list.display())))
        }
        (Some(address), Some(path), None) => {
            let sources = vec![(path.clone(), mailbox.clone())];
            Ok(vec![Job { address: address.clone(), sources }])
        }
        _ => Err(Failure::Usage("name an account and its source, or a --list".to_owned())),
    }
}

/// Works through all accounts, some at the same time.
fn all(
    jobs: &[Job],
    server: &Server,
    tickets: &Tickets<'_>,
    (asked, out): (&Import, Format),
) -> (Counts, Vec<Failed>) {
    let progress = Progress::default();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    let listener = |address: &str, event: &Event| told::event(address, event, out);
    let login = |address: &str| tickets.login(address);
    let work = Work {
        server,
        login: &login,
        journals: &asked.state,
        progress: &progress,
        listener: &listener,
        patience: PATIENCE,
    };
    let (end, ended) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let (counts, places) = (&progress, (&next, &done, jobs.len()));
        scope.spawn(move || told::tick(counts, places, &ended));
        let workers: Vec<_> = (0..usize::from(asked.jobs).min(jobs.len()))
            .map(|_| {
                scope.spawn(|| {
                    while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) {
                        if let Err(why) = mailcluster_import::run(job, &work) {
                            told::failed(&job.address, &why, out);
                            let failure = Failed { address: job.address.clone(), why };
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                        }
                        done.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        for worker in workers {
            if worker.join().is_err() {
                output::line("an account's import ended with a panic; run the command again");
            }
        }
        drop(end);
    });
    let counts = Counts::of(&progress, jobs.len());
    (counts, failed.into_inner().unwrap_or_else(PoisonError::into_inner))
}
