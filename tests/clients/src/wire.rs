//! A connection that reads lines and counted octets, in clear or over TLS.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// How a client protects its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    None,
    /// By the protocol's STARTTLS command.
    StartTls,
    /// From the first octet.
    Implicit,
}

trait Channel: Read + Write + Send {}
impl<T: Read + Write + Send> Channel for T {}

/// A connection to a server.
pub struct Wire {
    reader: BufReader<Box<dyn Channel>>,
    socket: TcpStream,
}

impl Wire {
    /// Connects; every later read and write is bounded by `timeout`.
    ///
    /// # Errors
    /// When there is no connection within `timeout`.
    pub fn connect(addr: SocketAddr, timeout: Duration) -> Result<Self> {
        let socket =
            TcpStream::connect_timeout(&addr, timeout).with_context(|| format!("connect to {addr}"))?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        Self::over(socket)
    }

    /// A connection that is there already.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn over(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        let channel: Box<dyn Channel> = Box::new(socket.try_clone()?);
        Ok(Self { reader: BufReader::new(channel), socket })
    }

    /// Starts TLS on this connection. Certificates are not verified: tests make their own.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn start_tls(&mut self, name: &str) -> Result<()> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(
                ring::default_provider().signature_verification_algorithms,
            )))
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned())?;
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        let mut socket = self.socket.try_clone()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).context("TLS handshake")?;
        }
        self.reader = BufReader::new(Box::new(StreamOwned::new(connection, socket)));
        Ok(())
    }

    /// One line without its CRLF.
    ///
    /// # Errors
    /// When the connection ends or stays silent too long.
    pub fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            bail!("connection closed");
        }
        if !line.ends_with(b"\n") {
            bail!("connection closed in the middle of a line");
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Exactly `count` octets.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn octets(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut octets = vec![0; count];
        self.reader.read_exact(&mut octets)?;
        Ok(octets)
    }

    /// Sends these octets.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(octets)?;
        self.reader.get_mut().flush()?;
        Ok(())
    }
}

#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
