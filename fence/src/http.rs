//! As much HTTP/1.1 (RFC 9112) as a management controller needs: one request a connection, bounded in time and size.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::config::{Config, ConfigError, Url};

/// Controllers are slow; one that takes longer counts as away.
const LIMIT: Duration = Duration::from_secs(20);
/// Longer answers are not read.
const MAX_ANSWER: u64 = 1 << 20;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The network, TLS or the protocol failed.
    #[error("the management controller does not answer: {0}")]
    Io(#[from] io::Error),
    /// It answered with this status.
    #[error("the management controller answered {status} to {what}: {body}")]
    Status {
        /// The status code.
        status: u16,
        /// Method and path.
        what: String,
        /// The first of what it said.
        body: String,
    },
}

impl HttpError {
    /// May the same request succeed later?
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            // A certificate that is not trusted will not be later either.
            Self::Io(error) => error.kind() != io::ErrorKind::InvalidData,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 409 | 425 | 429),
        }
    }
}

/// Talks to one controller.
pub struct Client {
    tls: Arc<ClientConfig>,
    authorization: String,
}

impl Client {
    /// With the configuration's credentials and trust.
    ///
    /// # Errors
    /// When `ca.crt` cannot be used.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let credentials = STANDARD.encode(format!("{}:{}", config.username, config.password));
        Ok(Self { tls: trust(config)?, authorization: format!("Basic {credentials}") })
    }

    /// GET.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn get(&self, url: &Url) -> Result<String, HttpError> {
        self.request("GET", url, "")
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn post(&self, url: &Url, body: &str) -> Result<String, HttpError> {
        self.request("POST", url, body)
    }

    fn request(&self, method: &str, url: &Url, body: &str) -> Result<String, HttpError> {
        let address = SocketAddr::new(url.host, url.port);
        let tcp = TcpStream::connect_timeout(&address, LIMIT)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        tcp.set_write_timeout(Some(LIMIT))?;
        let text = format!(
            "{method} {} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            url.path,
            self.authorization,
            body.len()
        );
        let answer = if url.tls {
            let connection = ClientConnection::new(self.tls.clone(), ServerName::from(url.host))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            exchange(StreamOwned::new(connection, tcp), &text)?
        } else {
            exchange(tcp, &text)?
        };
        let (status, body) = parse(&answer)?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let body = body.chars().take(200).collect();
        Err(HttpError::Status { status, what: format!("{method} {}", url.path), body })
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
        // Some controllers end TLS without a farewell; the length says whether everything is there.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
        Err(error) => Err(error),
        Ok(_) => Ok(answer),
    }
}

/// Status and body of an answer.
///
/// # Errors
/// When it is cut off or is none.
pub fn parse(answer: &[u8]) -> io::Result<(u16, String)> {
    let malformed = |what: &str| io::Error::other(format!("the answer is malformed: {what}"));
    let end =
        answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| malformed("no end of its head"))?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| malformed("its head is no text"))?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed("no status"))?;
    let header = |name: &str| {
        lines
            .clone()
            .filter_map(|l| l.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    };
    let body = if header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        unchunk(body).ok_or_else(|| malformed("its chunks"))?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| malformed("its length"))?;
        body.get(..length).ok_or_else(|| malformed("cut off"))?.to_vec()
    } else {
        body.to_vec()
    };
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

fn trust(config: &Config) -> Result<Arc<ClientConfig>, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let wrong = |error: &dyn std::fmt::Display| ConfigError::Ca(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let config = if config.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider))).with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(config.ca.as_deref().unwrap_or_default().as_bytes())
        {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

/// Takes any certificate: for controllers with self-signed ones, where the Secret says so.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
