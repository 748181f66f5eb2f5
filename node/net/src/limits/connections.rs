//! How many connections there may be, in all and per client.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::client_key;

/// Counts connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionLimits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    per_client: usize,
    refused: Refusals,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct Refusals {
    total: AtomicU64,
    client: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    clients: HashMap<IpAddr, usize>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    /// Too many connections in all.
    #[error("too many connections")]
    Total,
    /// Too many from this client.
    #[error("too many connections from this address")]
    Client,
}

/// One connection's place; gives it back when dropped.
#[derive(Debug)]
pub struct Permit {
    limits: ConnectionLimits,
    client: Option<IpAddr>,
}

impl ConnectionLimits {
    /// At most `total` connections, `per_client` of them from one IPv4 address or IPv6 /64.
    #[must_use]
    pub fn new(total: usize, per_client: usize) -> Self {
        Self(Arc::new(Inner { total, per_client, refused: Refusals::default(), state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection whose client is not known yet (it comes through a trusted proxy).
    ///
    /// # Errors
    /// [`LimitReached::Total`].
    pub fn acquire_total(&self) -> Result<Permit, LimitReached> {
        let mut state = self.state();
        if state.total >= self.0.total {
            self.0.refused.total.fetch_add(1, Ordering::Relaxed);
            return Err(LimitReached::Total);
        }
        state.total += 1;
        drop(state);
        Ok(Permit { limits: self.clone(), client: None })
    }

    /// Takes a place for a connection from `ip`.
    ///
    /// # Errors
    /// Which limit was reached.
    pub fn acquire(&self, ip: IpAddr) -> Result<Permit, LimitReached> {
        let mut permit = self.acquire_total()?;
        permit.set_client(ip)?;
        Ok(permit)
    }

    /// How often this limit was reached.
    #[must_use]
    pub fn refused(&self, limit: LimitReached) -> u64 {
        let counter = match limit {
            LimitReached::Total => &self.0.refused.total,
            LimitReached::Client => &self.0.refused.client,
        };
        counter.load(Ordering::Relaxed)
    }

    /// Connections now.
    #[must_use]
    pub fn total(&self) -> usize {
        self.state().total
    }

    /// Clients with a connection now.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.state().clients.len()
    }
}

impl Permit {
    /// Says whose connection it is, once.
    ///
    /// # Errors
    /// [`LimitReached::Client`]: this client has all it may have.
    pub fn set_client(&mut self, ip: IpAddr) -> Result<(), LimitReached> {
        if self.client.is_some() {
            return Ok(());
        }
        let client = client_key(ip);
        let mut state = self.limits.state();
        let count = state.clients.entry(client).or_insert(0);
        if *count >= self.limits.0.per_client {
            if *count == 0 {
                state.clients.remove(&client);
            }
            self.limits.0.refused.client.fetch_add(1, Ordering::Relaxed);
            return Err(LimitReached::Client);
        }
        *count += 1;
        drop(state);
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limits.state();
        state.total = state.total.saturating_sub(1);
        let Some(client) = self.client else { return };
        if let Some(count) = state.clients.get_mut(&client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let limits = ConnectionLimits::new(3, 2);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = limits.acquire(a).unwrap();
        let _second = limits.acquire(a).unwrap();
        assert_eq!(limits.acquire(a).unwrap_err(), LimitReached::Client);
        assert_eq!((limits.total(), limits.clients()), (2, 1));
        let _third = limits.acquire(b).unwrap();
        assert_eq!(limits.acquire(b).unwrap_err(), LimitReached::Total);
        drop(first);
        assert!(limits.acquire(a).is_ok());
        assert_eq!((limits.total(), limits.clients()), (2, 2));
        assert_eq!([LimitReached::Total, LimitReached::Client].map(|limit| limits.refused(limit)), [1, 1]);
    }

    #[test]
    fn one_ipv6_customer_is_one_client() {
        let limits = ConnectionLimits::new(10, 1);
        let _held = limits.acquire("2001:db8:1:2::1".parse().unwrap()).unwrap();
        assert!(limits.acquire("2001:db8:1:2:ffff::9".parse().unwrap()).is_err());
        assert!(limits.acquire("2001:db8:1:3::1".parse().unwrap()).is_ok());
        let _v4 = limits.acquire("192.0.2.1".parse().unwrap()).unwrap();
        assert!(limits.acquire("::ffff:192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_proxied_connection_counts_for_the_client_behind_it() {
        let limits = ConnectionLimits::new(10, 1);
        let mut first = limits.acquire_total().unwrap();
        let mut second = limits.acquire_total().unwrap();
        first.set_client("192.0.2.1".parse().unwrap()).unwrap();
        assert!(second.set_client("192.0.2.1".parse().unwrap()).is_err());
        drop((first, second));
        assert_eq!((limits.total(), limits.clients()), (0, 0));
    }
}
