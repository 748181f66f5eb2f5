//! Who we are to a registry: what `docker login` has left in `~/.docker/config.json`.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A login, or why there is none.
#[derive(Debug)]
pub struct Login {
    /// The file that was read.
    pub file: PathBuf,
    basic: Result<String, String>,
}

impl Login {
    /// The user's login at this host. That there is none matters only when the registry asks for one.
    pub fn of_user(host: &str) -> Result<Self> {
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
        let file = folder.or_else(home).unwrap_or_default().join("config.json");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let config = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        Ok(Self::read(file, &config, host))
    }

    /// The login at this host that a docker configuration has.
    pub fn read(file: PathBuf, config: &Value, host: &str) -> Self {
        let hub = ["docker.io", "index.docker.io", "https://index.docker.io/v1/"];
        let auths = &config["auths"];
        let names = [host.to_owned(), format!("https://{host}"), format!("https://{host}/v1/")];
        let named = names.iter().map(String::as_str);
        let all: Vec<&str> = if hub.contains(&host) { hub.into() } else { named.collect() };
        let auth = all.iter().find_map(|name| auths[*name]["auth"].as_str().filter(|auth| !auth.is_empty()));
        let helper = config["credHelpers"][host].as_str().or_else(|| config["credsStore"].as_str());
        let basic = match (auth, helper) {
            (Some(auth), _) => Ok(format!("Basic {auth}")),
            (None, Some(helper)) => Err(format!(
                "{host} wants a login, and {} leaves it to the helper {helper}, which is not asked here: \
                 save the images with `cargo xtask images save` and push them with docker",
                file.display()
            )),
            (None, None) => Err(format!(
                "{host} wants a login, and {} has none: `docker login {host}` makes one",
                file.display()
            )),
        };
        Self { file, basic }
    }

    /// The value of an `Authorization` header.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub fn basic(&self) -> Result<String, String> {
        self.basic.clone()
    }
}

/// What a registry asks for in `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password.
    Basic,
    /// A token that another address gives for name and password.
    Bearer {
        /// That address.
        realm: String,
        /// What the token is for, in that address's words.
        service: String,
    },
}

impl Challenge {
    /// Reads the header.
    pub fn parse(header: &str) -> Result<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            bail!("the registry asks for a login of a kind that is not known here: {header}");
        }
        let value = |name: &str| {
            let (_, rest) = rest.split_once(&format!("{name}=\""))?;
            Some(rest.split('"').next().unwrap_or_default().to_owned())
        };
        let realm = value("realm").context("the registry does not say where its tokens come from")?;
        Ok(Self::Bearer { realm, service: value("service").unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn logins_are_found_as_docker_writes_them() {
        let config = json!({"auths": {"registry.example.org": {"auth": "YTpi"}, "https://old.example": {"auth": "Yzpk"},
            "https://index.docker.io/v1/": {"auth": "ZTpm"}, "empty.example": {}},
            "credHelpers": {"helped.example": "pass"}});
        for (host, found) in [
            ("registry.example.org", Ok("Basic YTpi")),
            ("old.example", Ok("Basic Yzpk")),
            ("docker.io", Ok("Basic ZTpm")),
            ("empty.example", Err("docker login empty.example")),
            ("helped.example", Err("helper pass")),
        ] {
            let login = Login::read(PathBuf::from("config.json"), &config, host).basic();
            match found {
                Ok(basic) => assert_eq!(login.as_deref(), Ok(basic), "{host}"),
                Err(part) => assert!(login.unwrap_err().contains(part), "{host}"),
            }
        }
    }

    #[test]
    fn challenges_are_read() {
        assert_eq!(Challenge::parse("Basic realm=\"x\"").unwrap(), Challenge::Basic);
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="a:b:c""#;
        let Challenge::Bearer { realm, service } = Challenge::parse(header).unwrap() else {
            panic!("not a bearer's")
        };
        assert_eq!((realm.as_str(), service.as_str()), ("https://auth.example/token", "registry.example"));
        assert!(Challenge::parse("Bearer").is_err());
        assert!(Challenge::parse("Negotiate").is_err());
    }
}
