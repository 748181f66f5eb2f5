//! Argon2 with its memory kept: 19 MiB asked for and given back at every login leave the allocator's heap in pieces,
//! and the process growing.

use std::sync::{Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::phc::PasswordHash};
use subtle::ConstantTimeEq;

/// Kept between verifications: as many as run at once on an ordinary machine. More are made and dropped.
const KEPT: usize = 8;
/// Blocks of memory (1 KiB each) beyond which a piece is not kept: hashes that were imported may be dearer.
const LARGEST: usize = 64 << 10;

static POOL: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

/// Is this the password of the hash? False for a hash that is not usable.
pub(crate) fn verify(password: &str, hash: &PasswordHash) -> bool {
    let (Ok(params), Some(salt), Some(expected)) = (Params::try_from(hash), &hash.salt, &hash.hash) else {
        return false;
    };
    let blocks = params.block_count();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut memory = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    memory.resize(blocks.max(memory.len()), Block::default());
    let mut output = vec![0; expected.as_bytes().len()];
    let hashed = argon2.hash_password_into_with_memory(
        password.as_bytes(),
        salt.as_ref(),
        &mut output,
        &mut memory[..],
    );
    give_back(memory);
    hashed.is_ok() && output.ct_eq(expected.as_bytes()).into()
}

fn give_back(memory: Vec<Block>) {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() < KEPT && memory.len() <= LARGEST {
        pool.push(memory);
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;

    use super::*;

    #[test]
    fn it_agrees_with_the_library() {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(32, 1, 1, None).unwrap());
        let hash: PasswordHash = argon2.hash_password(b"right").unwrap();
        let dearer = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 2, 1, None).unwrap());
        let other: PasswordHash = dearer.hash_password(b"other").unwrap();
        for _ in 0..3 {
            assert!(verify("right", &hash) && verify("other", &other));
            assert!(!verify("wrong", &hash) && !verify("right", &other));
        }
    }
}
