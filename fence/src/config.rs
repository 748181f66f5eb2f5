//! What was mounted and set.

use std::{fs, io, net::IpAddr, path::Path};

/// What cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An environment variable of the contract is missing.
    #[error("the environment has no {0}")]
    NoVariable(&'static str),
    /// A file is missing or unreadable.
    #[error("failed to read {file}")]
    File {
        /// Its name.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The address is none.
    #[error(
        "not the address of a Redfish system: {0} (wanted: http://IP[:PORT]/PATH or https://IP[:PORT]/PATH)"
    )]
    Url(String),
    /// `ca.crt` cannot be used.
    #[error("ca.crt cannot be used: {0}")]
    Ca(String),
}

/// `http(s)://IP[:PORT]/PATH`. Names are not resolved: the program is static and runs beside a cluster in trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// With TLS.
    pub tls: bool,
    /// The controller.
    pub host: IpAddr,
    /// Its port.
    pub port: u16,
    /// From the first slash.
    pub path: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// [`ConfigError::Url`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let error = || ConfigError::Url(text.chars().take(200).collect());
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(error()),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(error());
        }
        let port = if tls { 443 } else { 80 };
        let (host, port) = match authority.parse::<std::net::SocketAddr>() {
            Ok(address) => (address.ip(), address.port()),
            Err(_) => {
                let host = authority.trim_start_matches('[').trim_end_matches(']');
                (host.parse().map_err(|_| error())?, port)
            }
        };
        Ok(Self { tls, host, port, path: path.to_owned() })
    }

    /// Another path at the same controller.
    #[must_use]
    pub fn sibling(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }
}

/// Everything that is needed.
pub struct Config {
    /// The node.
    pub node: String,
    /// Its UID.
    pub node_uid: String,
    /// The boot that may be ended.
    pub boot_id: String,
    /// Its system at the management controller.
    pub url: Url,
    /// The user.
    pub username: String,
    /// The password; never printed.
    pub password: String,
    /// The CA of the controller's certificate, PEM.
    pub ca: Option<String>,
    /// Any certificate is good.
    pub insecure: bool,
}

impl Config {
    /// Reads environment and files.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(dir: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variable =
            |name: &'static str| env(name).filter(|v| !v.is_empty()).ok_or(ConfigError::NoVariable(name));
        let node = variable("NODE")?;
        let own = format!("{node}.url");
        let url = match optional(dir, &own)? {
            Some(url) => url,
            None => file(dir, "url")
                .map_err(|_| ConfigError::File { file: own, source: io::ErrorKind::NotFound.into() })?
                .replace("{node}", &node),
        };
        Ok(Self {
            url: Url::parse(&url)?,
            node_uid: variable("NODE_UID")?,
            boot_id: variable("BOOT_ID")?,
            username: file(dir, "username")?,
            password: file(dir, "password")?,
            ca: optional(dir, "ca.crt")?,
            insecure: optional(dir, "insecure")?.is_some_and(|v| v == "true"),
            node,
        })
    }
}

fn file(dir: &Path, name: &str) -> Result<String, ConfigError> {
    fs::read_to_string(dir.join(name))
        .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        .map_err(|source| ConfigError::File { file: name.to_owned(), source })
}

fn optional(dir: &Path, name: &str) -> Result<Option<String>, ConfigError> {
    match file(dir, name) {
        Ok(text) => Ok(Some(text)),
        Err(ConfigError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
