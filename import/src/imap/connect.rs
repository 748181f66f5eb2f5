//! TLS to a server, whose certificate is checked.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::{Client, ImapError};

/// A connection.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Longest wait for the connection, and for anything the server has to say: a takeover takes less.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(120);

/// A server, and the way to it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Host and port.
    pub address: (String, u16),
    /// The name that its certificate must have.
    pub name: ServerName<'static>,
    /// Who may have issued it.
    pub tls: Arc<ClientConfig>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No way to the server.
    #[error("{0}:{1} cannot be reached: {2}")]
    Unreachable(String, u16, io::Error),
    /// No TLS, or a certificate that is not good for this name: another try ends the same way.
    #[error("{0}:{1}: TLS: {2}")]
    Tls(String, u16, rustls::Error),
    /// It speaks, and not IMAP as it should.
    #[error(transparent)]
    Imap(#[from] ImapError),
}

impl Server {
    /// Connects, and reads the greeting.
    ///
    /// # Errors
    /// As [`ConnectError`] says.
    pub fn connect(&self) -> Result<Client<Stream>, ConnectError> {
        let (host, port) = &self.address;
        let unreachable = |error| ConnectError::Unreachable(host.clone(), *port, error);
        let refused = |error| ConnectError::Tls(host.clone(), *port, error);
        let mut socket = self.socket().map_err(unreachable)?;
        let mut tls = ClientConnection::new(Arc::clone(&self.tls), self.name.clone()).map_err(refused)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|error| {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                inner.cloned().map_or_else(|| unreachable(error), refused)
            })?;
        }
        Ok(Client::greeted(StreamOwned::new(tls, socket))?)
    }

    fn socket(&self) -> io::Result<TcpStream> {
        let (host, port) = &self.address;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host.as_str(), *port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_read_timeout(Some(SILENCE))?;
                    socket.set_write_timeout(Some(SILENCE))?;
                    return Ok(socket);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
