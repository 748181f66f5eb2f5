//! Pushing images to a registry by the OCI distribution API
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>).

use std::{io::Read, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_lab::{ArchivedImage, OciArchive};
use ureq::{
    Agent, Body, SendBody,
    http::{Request, Response, header},
    tls::{RootCerts, TlsConfig},
};

use super::{
    login::{Challenge, Login},
    target::Target,
};

/// How long a registry may take to answer, bodies apart.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry, and how to reach it.
pub struct Registry {
    target: Target,
    login: Login,
    agent: Agent,
}

/// What is sent.
enum Sent<'a> {
    Nothing,
    Bytes(&'a [u8], &'a str),
    Blob(&'a str),
}

impl Registry {
    /// A registry; over HTTPS unless it is on this machine.
    pub fn new(target: Target, login: Login) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let mut config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE));
        if target.is_local() {
            config = config.proxy(None);
        }
        Self { target, login, agent: config.build().new_agent() }
    }

    /// Pushes every image of an archive; answers their names there, with digests.
    pub fn push(&self, archive: &OciArchive) -> Result<Vec<String>> {
        archive
            .images()
            .iter()
            .map(|image| {
                let (repository, tag) = self.target.name(&image.name)?;
                let mut session = Session { registry: self, repository, archive, authorization: None };
                session.push(image, &tag).with_context(|| format!("failed to push {}", image.name))?;
                Ok(format!("{}/{}:{tag}@{}", self.target.host, session.repository, image.digest))
            })
            .collect()
    }
}

/// Pushing one image: a token is good for one repository.
struct Session<'a> {
    registry: &'a Registry,
    repository: String,
    archive: &'a OciArchive,
    authorization: Option<String>,
}

impl Session<'_> {
    fn push(&mut self, image: &ArchivedImage, tag: &str) -> Result<()> {
        for digest in &image.blobs {
            self.blob(digest)?;
        }
        let url = self.url(&format!("manifests/{tag}"));
        let answer = self.send("PUT", &url, &Sent::Bytes(&image.manifest, &image.media_type))?;
        expect(answer, &[201, 200], "the manifest").map(drop)
    }

    /// Uploads a blob in one piece, unless the registry has it.
    fn blob(&mut self, digest: &str) -> Result<()> {
        let url = self.url(&format!("blobs/{digest}"));
        if self.send("HEAD", &url, &Sent::Nothing)?.status() == 200 {
            return Ok(());
        }
        let url = self.url("blobs/uploads/");
        let answer = expect(self.send("POST", &url, &Sent::Nothing)?, &[202], "an upload")?;
        let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.context("the registry names no Location for an upload")?;
        let url = with_digest(&self.registry.target.absolute(location), digest);
        expect(self.send("PUT", &url, &Sent::Blob(digest))?, &[201], digest).map(drop)
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.registry.target.base(), self.repository)
    }

    /// Sends a request, and once more with what the registry asks for when it wants to know who we are.
    fn send(&mut self, method: &str, url: &str, sent: &Sent<'_>) -> Result<Response<Body>> {
        let answer = self.send_once(method, url, sent)?;
        if answer.status() != 401 {
            return Ok(answer);
        }
        let asked = answer.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let challenge = Challenge::parse(asked.unwrap_or("Basic"))?;
        self.authorization = Some(self.authorize(&challenge)?);
        let again = self.send_once(method, url, sent)?;
        ensure!(
            again.status() != 401,
            "{} refuses the login of {}: `docker login {0}` makes a new one",
            self.registry.target.host,
            self.registry.login.file.display()
        );
        Ok(again)
    }

    fn send_once(&self, method: &str, url: &str, sent: &Sent<'_>) -> Result<Response<Body>> {
        let mut request = Request::builder().method(method).uri(url);
        // Uploads may go to another host, which has its own ways to tell who may.
        if let Some(authorization) = self.authorization.as_ref().filter(|_| self.registry.target.owns(url)) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let agent = &self.registry.agent;
        let answer = match sent {
            Sent::Nothing if method == "HEAD" => agent.run(request.body(())?),
            Sent::Nothing => agent.run(request.header(header::CONTENT_LENGTH, 0).body(SendBody::none())?),
            Sent::Bytes(bytes, kind) => {
                let request = request.header(header::CONTENT_TYPE, *kind);
                agent.run(request.header(header::CONTENT_LENGTH, bytes.len()).body(*bytes)?)
            }
            Sent::Blob(digest) => {
                let (reader, size) = self.archive.blob(digest)?;
                let request = request
                    .header(header::CONTENT_TYPE, "application/octet-stream")
                    .header(header::CONTENT_LENGTH, size);
                agent.run(request.body(SendBody::from_owned_reader(reader))?)
            }
        };
        answer.with_context(|| format!("{method} {url}"))
    }

    /// What to send as `Authorization`.
    fn authorize(&self, challenge: &Challenge) -> Result<String> {
        let basic = self.registry.login.basic();
        match challenge {
            Challenge::Basic => basic.map_err(|why| anyhow::anyhow!("{why}")),
            Challenge::Bearer { realm, service } => {
                ensure!(
                    realm.starts_with("https://") || self.registry.target.is_local(),
                    "{} asks to log in at {realm}, without TLS",
                    self.registry.target.host
                );
                let scope = format!("repository:{}:pull,push", self.repository);
                let mut request = self.registry.agent.get(realm.as_str()).query("scope", scope);
                if !service.is_empty() {
                    request = request.query("service", service);
                }
                // Without a login a registry may still let anyone push, as those for tests do.
                if let Ok(basic) = basic {
                    request = request.header(header::AUTHORIZATION, basic);
                }
                let mut answer = expect(request.call()?, &[200], "a token")?;
                let token: serde_json::Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
                let token = token["token"].as_str().or_else(|| token["access_token"].as_str());
                Ok(format!("Bearer {}", token.with_context(|| format!("{realm} gives no token"))?))
            }
        }
    }
}

/// The answer, when its status is one of these; else what the registry says.
fn expect(mut answer: Response<Body>, wanted: &[u16], what: &str) -> Result<Response<Body>> {
    let status = answer.status();
    if wanted.contains(&status.as_u16()) {
        return Ok(answer);
    }
    let mut text = String::new();
    let _partial = answer.body_mut().as_reader().take(2000).read_to_string(&mut text);
    bail!("the registry answers {status} for {what}: {}", text.trim())
}

fn with_digest(location: &str, digest: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}digest={digest}")
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
