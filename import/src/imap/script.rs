//! A server that says what a test has written down.

use std::io::{self, Cursor, Read, Write};

use super::Client;

/// What the server says, whole, and what it was told.
#[derive(Debug)]
pub struct Script {
    says: Cursor<Vec<u8>>,
    pub heard: Vec<u8>,
    /// So many octets at once.
    at_once: usize,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = buffer.len().min(self.at_once);
        self.says.read(&mut buffer[..end])
    }
}

impl Write for Script {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.heard.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn script(says: &[u8], at_once: usize) -> Script {
    Script { says: Cursor::new(says.to_vec()), heard: Vec::new(), at_once }
}

/// A session with it.
pub fn greeted(says: &str, at_once: usize) -> Client<Script> {
    Client::greeted(script(format!("* OK hello\r\n{says}").as_bytes(), at_once)).unwrap()
}
