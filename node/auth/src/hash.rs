//! Making new hashes, and the work that is done for users who do not exist.

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::phc::PasswordHash};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::{MAX_PASSWORD, StoredHash, scheme::is_possible};

/// What a new Argon2id hash costs. The default is OWASP's: 19 MiB, 2 passes, 1 lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for HashCost {
    fn default() -> Self {
        Self { memory_kib: 19 << 10, passes: 2, lanes: 1 }
    }
}

impl HashCost {
    /// The least that Argon2 takes: for tests alone.
    #[must_use]
    pub fn cheapest() -> Self {
        Self { memory_kib: 8, passes: 1, lanes: 1 }
    }
}

/// Why no hash could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HasherError {
    /// The cost is outside of what Argon2 takes.
    #[error("not a valid argon2 cost")]
    Cost,
    /// The password is empty, longer than [`MAX_PASSWORD`] octets, or holds a NUL.
    #[error("a password has 1 to {MAX_PASSWORD} octets and no NUL")]
    Password,
    /// The operating system has no randomness, or no memory, to give.
    #[error("failed to hash the password")]
    Failed,
}

/// Makes Argon2id hashes of one cost.
#[derive(Clone)]
pub struct Hasher {
    argon2: Argon2<'static>,
    cost: HashCost,
    dummy: StoredHash,
}

impl Hasher {
    /// Hashes nothing: who takes a directory over is waited for.
    ///
    /// # Errors
    /// [`HasherError::Cost`] when the cost is out of range.
    pub fn new(cost: HashCost) -> Result<Self, HasherError> {
        let params =
            Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|_| HasherError::Cost)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self { argon2, cost, dummy: dummy(cost)? })
    }

    /// Hashes a password. Blocking, and slow by design.
    ///
    /// # Errors
    /// As [`HasherError`] says.
    pub fn hash(&self, password: &str) -> Result<String, HasherError> {
        if password.is_empty() || !is_possible(password) {
            return Err(HasherError::Password);
        }
        let hash: PasswordHash =
            self.argon2.hash_password(password.as_bytes()).map_err(|_| HasherError::Failed)?;
        Ok(hash.to_string())
    }

    /// Verifies a password against what is stored; without a stored hash (unknown user, no password login) the
    /// dummy is verified, so that the work is the same, and the answer is no. Blocking.
    #[must_use]
    pub fn verify(&self, stored: Option<&StoredHash>, password: &str) -> bool {
        let right = stored.unwrap_or(&self.dummy).verify(password);
        right && stored.is_some()
    }

    /// Should the hash be made anew at the next login: another scheme, or another cost?
    #[must_use]
    pub fn needs_rehash(&self, stored: &StoredHash) -> bool {
        stored.argon2_cost() != Some((self.cost.memory_kib, self.cost.passes, self.cost.lanes))
    }
}

/// What [`Hasher::verify`] uses where there is no hash: of the same cost, and of no password that anybody could find.
fn dummy(cost: HashCost) -> Result<StoredHash, HasherError> {
    let (mut salt, mut output) = ([0; 16], [0; 32]);
    getrandom::fill(&mut salt)
        .and_then(|()| getrandom::fill(&mut output))
        .map_err(|_| HasherError::Failed)?;
    let HashCost { memory_kib, passes, lanes } = cost;
    let (salt, output) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
    let text = format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${output}");
    StoredHash::parse(&text).map_err(|_| HasherError::Cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dummy_costs_what_a_hash_costs() {
        let cost = HashCost::cheapest();
        let hasher = Hasher::new(cost).unwrap();
        assert_eq!(hasher.dummy.argon2_cost(), Some((cost.memory_kib, cost.passes, cost.lanes)));
        assert!(!hasher.needs_rehash(&hasher.dummy));
    }

    #[test]
    fn what_is_hashed_verifies_and_nothing_else() {
        let hasher = Hasher::new(HashCost::cheapest()).unwrap();
        let stored = StoredHash::parse(&hasher.hash("right").unwrap()).unwrap();
        assert!(hasher.verify(Some(&stored), "right"));
        assert!(!hasher.verify(Some(&stored), "wrong"));
        assert!(!hasher.verify(None, "right"));
        assert_eq!(stored.scheme(), "ARGON2ID");
        assert!(!hasher.needs_rehash(&stored));
        let dearer = HashCost { memory_kib: 16, ..HashCost::cheapest() };
        assert!(Hasher::new(dearer).unwrap().needs_rehash(&stored));
    }

    /// The fastest of several tries of each, by turns: the machine's noise only makes things slower.
    #[test]
    fn a_user_who_does_not_exist_costs_the_same_work() {
        let hasher = Hasher::new(HashCost::default()).unwrap();
        let stored = StoredHash::parse(&hasher.hash("right").unwrap()).unwrap();
        let time = |stored: Option<&StoredHash>| {
            let start = std::time::Instant::now();
            assert!(!hasher.verify(stored, "wrong"));
            start.elapsed().as_secs_f64()
        };
        let times: Vec<_> = (0..8).map(|_| (time(Some(&stored)), time(None))).collect();
        let wrong = times.iter().map(|(wrong, _)| *wrong).fold(f64::MAX, f64::min);
        let unknown = times.iter().map(|(_, unknown)| *unknown).fold(f64::MAX, f64::min);
        assert!(
            (0.6..1.6).contains(&(unknown / wrong)),
            "wrong password {wrong} s, unknown user {unknown} s"
        );
    }

    #[test]
    fn passwords_and_costs_have_bounds() {
        let hasher = Hasher::new(HashCost::cheapest()).unwrap();
        assert_eq!(hasher.hash(""), Err(HasherError::Password));
        assert_eq!(hasher.hash(&"x".repeat(MAX_PASSWORD + 1)), Err(HasherError::Password));
        let stored = StoredHash::parse(&hasher.hash(&"x".repeat(MAX_PASSWORD)).unwrap()).unwrap();
        assert!(stored.verify(&"x".repeat(MAX_PASSWORD)));
        assert!(!stored.verify(&"x".repeat(MAX_PASSWORD + 1)));
        assert!(Hasher::new(HashCost { memory_kib: 0, passes: 0, lanes: 0 }).is_err());
    }
}
