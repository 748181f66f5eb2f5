//! The Kubernetes API for the lab's own background process: plain HTTP over a Unix socket to `kubectl proxy`, which
//! does TLS and authentication, so that the lab needs no client library.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::site::Site;

/// Relative to the lab's folder, the background process's working directory: a socket's path has a short limit.
const SOCKET: &str = "proxy.sock";

/// Longer than the API server's interval between bookmarks (1 minute).
const WATCH_SILENCE: Duration = Duration::from_secs(90);

/// Starts the proxy, and again whenever it ends.
pub(crate) fn keep_proxy(site: &Site) {
    let site = site.clone();
    std::thread::spawn(move || {
        loop {
            let _stale = std::fs::remove_file(SOCKET);
            if let Err(error) = start_proxy(&site).and_then(|mut child| Ok(child.wait()?)) {
                eprintln!("kubectl proxy: {error:#}");
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

fn start_proxy(site: &Site) -> Result<Child> {
    Command::new(&site.kubebox)
        .args(["kubectl", "proxy", "--unix-socket", SOCKET, "--kubeconfig"])
        .arg(site.paths.pki().join("lab.kubeconfig"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("failed to start")
}

/// Reads one object or list.
pub(crate) fn get(path: &str) -> Result<Value> {
    let reader = request("GET", path, None, Duration::from_secs(30))?;
    serde_json::from_reader(reader).with_context(|| format!("failed to read {path}"))
}

/// Changes an object by a JSON merge patch (RFC 7396).
pub(crate) fn patch(path: &str, patch: &Value) -> Result<()> {
    request("PATCH", path, Some(&patch.to_string()), Duration::from_secs(30)).map(|_| ())
}

/// Calls back with each event of a watch until the server ends it or the callback fails.
pub(crate) fn watch(path: &str, mut event: impl FnMut(Value) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(request("GET", path, None, WATCH_SILENCE)?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        event(serde_json::from_str(&line).context("an event is no JSON")?)?;
        line.clear();
    }
    Ok(())
}

fn request(method: &str, path: &str, body: Option<&str>, timeout: Duration) -> Result<Body> {
    let mut stream = UnixStream::connect(SOCKET).context("kubectl proxy isn't there")?;
    stream.set_read_timeout(Some(timeout))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    if let Some(body) = body {
        head += &format!("Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n{}", body.unwrap_or_default()).as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut rest = Rest::UntilClose;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            rest = Rest::Bytes(value.parse().context("not a length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            rest = Rest::Chunks { left: 0 };
        }
    }
    let mut body = Body { reader, rest };
    if !status.starts_with('2') {
        let mut said = String::new();
        let _partial = (&mut body).take(500).read_to_string(&mut said);
        bail!("{method} {path}: {status} {}", said.trim());
    }
    Ok(body)
}

/// How the rest of a message is delimited (RFC 9112 section 6).
enum Rest {
    UntilClose,
    Bytes(u64),
    Chunks { left: u64 },
    End,
}

struct Body {
    reader: BufReader<UnixStream>,
    rest: Rest,
}

impl Body {
    fn next_chunk(&mut self) -> std::io::Result<u64> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            line.clear();
            self.reader.read_line(&mut line)?;
        }
        let size = line.trim().split(';').next().unwrap_or_default();
        u64::from_str_radix(size, 16).map_err(std::io::Error::other)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if matches!(self.rest, Rest::Chunks { left: 0 }) {
            let left = self.next_chunk()?;
            self.rest = if left == 0 { Rest::End } else { Rest::Chunks { left } };
        }
        let (Rest::Bytes(limit) | Rest::Chunks { left: limit }) = self.rest else {
            return if matches!(self.rest, Rest::End) { Ok(0) } else { self.reader.read(buffer) };
        };
        let room = buffer.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        let read = self.reader.read(&mut buffer[..room])?;
        if let Rest::Bytes(left) | Rest::Chunks { left } = &mut self.rest {
            *left -= read as u64;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(rest: Rest, bytes: &[u8]) -> String {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(bytes).unwrap();
        drop(ours);
        let mut text = String::new();
        Body { reader: BufReader::new(theirs), rest }.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn bodies_end_where_they_should() {
        assert_eq!(body(Rest::UntilClose, b"all of it"), "all of it");
        assert_eq!(body(Rest::Bytes(3), b"all of it"), "all");
        assert_eq!(
            body(Rest::Chunks { left: 0 }, b"3\r\nall\r\nB;x=y\r\n of it all.\r\n0\r\n\r\n"),
            "all of it all."
        );
    }
}
