//! Where passwords are verified: as many at once as there are cores, a bounded number waiting, the rest refused.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Too many verifications wait already, or the runtime is going down: say "try again later".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being verified")]
pub struct Overloaded;

/// A bounded pool of blocking work. Cheap to clone.
#[derive(Clone)]
pub struct VerifyPool {
    workers: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl VerifyPool {
    /// At most `workers` jobs run and at most `queue` wait.
    #[must_use]
    pub fn new(workers: usize, queue: usize) -> Self {
        let workers = workers.max(1);
        Self { workers: Arc::new(Semaphore::new(workers)), places: Arc::new(Semaphore::new(workers + queue)) }
    }

    /// One worker for each core, 64 waiting for each.
    #[must_use]
    pub fn for_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(cores, cores * 64)
    }

    /// Runs `work` on a blocking thread. When the caller goes away the work still ends, and holds its place until
    /// then.
    ///
    /// # Errors
    /// [`Overloaded`] at once when every place is taken.
    pub async fn run<T, F>(&self, work: F) -> Result<T, Overloaded>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Overloaded)?;
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| Overloaded)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop((worker, place));
            result
        })
        .await
        .map_err(|_| Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_refused_at_once() {
        let pool = VerifyPool::new(1, 1);
        let (release, wait) = mpsc::channel::<()>();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    let _ = started.send(());
                    let _ = wait.recv();
                    1
                })
                .await
            }
        });
        has_started.await.unwrap();
        let mut second = Box::pin(pool.run(|| 2));
        assert!(
            std::future::Future::poll(
                second.as_mut(),
                &mut std::task::Context::from_waker(std::task::Waker::noop())
            )
            .is_pending()
        );
        assert_eq!(pool.run(|| 3).await, Err(Overloaded));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(second.await, Ok(2));
        assert_eq!(pool.run(|| 4).await, Ok(4));
    }
}
