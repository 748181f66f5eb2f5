//! Where images are pushed to: `HOST[:PORT][/FOLDER]`, as it stands before an image's name.

use anyhow::{Context, Result, bail, ensure};

/// A registry's address and the folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port, as in images' names.
    pub host: String,
    /// What stands before an image's name: empty, or with a slash at its end.
    folder: String,
}

impl Target {
    /// Reads `HOST[:PORT][/FOLDER]`.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains("://") {
            bail!(
                "{text:?}: leave the scheme out; a registry on this machine is asked by HTTP, others by HTTPS"
            );
        }
        let (host, folder) = text.trim_end_matches('/').split_once('/').unwrap_or((text, ""));
        let host = host.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let names_a_host = host.contains(['.', ':']) || host == "localhost";
        ensure!(
            names_a_host && host.chars().all(plain),
            "{text:?} names no registry: expected HOST[:PORT][/FOLDER], like registry.example.org/mail"
        );
        let path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._/".contains(c);
        ensure!(folder.chars().all(path), "{folder:?}: a folder has lower-case letters, digits and - . _ /");
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        Ok(Self { host: host.to_owned(), folder })
    }

    /// An image's repository and tag there, from its name here.
    pub fn name(&self, image: &str) -> Result<(String, String)> {
        let last = image.rsplit('/').next().unwrap_or(image);
        let (name, tag) = last.split_once(':').with_context(|| format!("{image} has no tag"))?;
        Ok((format!("{}{name}", self.folder), tag.to_owned()))
    }

    /// Is it on this machine?
    pub fn is_local(&self) -> bool {
        let name = if self.host.starts_with('[') {
            self.host.split(']').next().unwrap_or_default().trim_start_matches('[')
        } else {
            self.host.split(':').next().unwrap_or_default()
        };
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The address of its API.
    pub fn base(&self) -> String {
        let scheme = if self.is_local() { "http" } else { "https" };
        // Images of docker.io are kept elsewhere.
        let host = if self.host == "docker.io" { "registry-1.docker.io" } else { &self.host };
        format!("{scheme}://{host}")
    }

    /// Is this address the registry's own?
    pub fn owns(&self, url: &str) -> bool {
        url.strip_prefix(&self.base()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// A `Location`, which may be relative.
    pub fn absolute(&self, location: &str) -> String {
        if location.contains("://") {
            location.to_owned()
        } else {
            format!("{}/{}", self.base(), location.trim_start_matches('/'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_told_from_what_is_none() {
        for (text, base) in [
            ("registry.example.org", Some("https://registry.example.org")),
            ("registry.example.org/mail/x/", Some("https://registry.example.org")),
            ("localhost:5000", Some("http://localhost:5000")),
            ("127.0.0.1:5000/a", Some("http://127.0.0.1:5000")),
            ("[::1]:5000", Some("http://[::1]:5000")),
            ("10.0.0.1:5000", Some("https://10.0.0.1:5000")),
            ("docker.io/someone", Some("https://registry-1.docker.io")),
            ("localhost.example.org", Some("https://localhost.example.org")),
            ("https://registry.example.org", None),
            ("kind", None),
            ("registry.example.org/UPPER", None),
            ("a b.example", None),
        ] {
            assert_eq!(Target::parse(text).ok().map(|target| target.base()).as_deref(), base, "{text}");
        }
    }

    #[test]
    fn names_and_addresses_follow_the_target() {
        let target = Target::parse("localhost:5000/team/mail").unwrap();
        let named = target.name("localhost/mailcluster-node:0.1.0").unwrap();
        assert_eq!(named, ("team/mail/mailcluster-node".to_owned(), "0.1.0".to_owned()));
        assert!(target.name("localhost/mailcluster-node").is_err());
        assert_eq!(target.absolute("/v2/x/blobs/uploads/1"), "http://localhost:5000/v2/x/blobs/uploads/1");
        assert_eq!(target.absolute("https://store.example/1"), "https://store.example/1");
        assert!(target.owns("http://localhost:5000/v2/"));
        assert!(!target.owns("http://localhost:50001/v2/"), "another port is another's");
        assert!(!target.owns("https://store.example/1"));
    }
}
