//! A BMC for every node: a small Redfish service (DMTF DSP0266) on the hub's address, one port per node, that
//! reports the node's power state and switches it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::ranges::Ranges;
use crate::state::{Node, Power, State};

/// The user of every BMC.
pub const USER: &str = "admin";

/// How to reach the BMC of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bmc {
    /// `http://ADDRESS:PORT`; the node's system is `/redfish/v1/Systems/NODE` there.
    pub endpoint: String,
    /// The user for HTTP basic authentication.
    pub username: String,
    /// The password.
    pub password: String,
}

impl Lab {
    /// The BMC of a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn bmc(&self, node: &str) -> Result<Bmc> {
        let state = self.state()?;
        let endpoint = format!("http://{}:{}", state.ranges.hub(), port(state.node(node)?));
        Ok(Bmc { endpoint, username: USER.to_owned(), password: state.bmc_password })
    }
}

fn port(node: &Node) -> u16 {
    8000 + u16::try_from(node.index).unwrap_or_default()
}

/// Serves the BMCs of all nodes, each in a thread of its own.
pub(crate) fn serve(lab: &'static Lab, state: &State) -> Result<()> {
    for node in &state.nodes {
        let listener = listen(state.ranges, node)?;
        let name = node.name.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One at a time, as real ones do: a power-off must not race a power-on.
                if let Err(error) = handle(lab, &name, &stream) {
                    eprintln!("bmc of {name}: {error:#}");
                }
            }
        });
    }
    Ok(())
}

fn listen(ranges: Ranges, node: &Node) -> Result<TcpListener> {
    let address: (Ipv4Addr, u16) = (ranges.hub(), port(node));
    TcpListener::bind(address).with_context(|| format!("failed to listen for the BMC of {}", node.name))
}

struct Request {
    method: String,
    path: String,
    authorization: String,
    body: Vec<u8>,
}

fn handle(lab: &Lab, node: &str, stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let request = read_request(stream)?;
    let state = lab.state()?;
    let (status, body) = if authorized(&request.authorization, &state.bmc_password) {
        answer(&request.method, &request.path, &request.body, state.node(node)?)
    } else {
        (Status::UNAUTHORIZED, Answer::Body(error("Base.1.0.NoValidSession", "user or password is wrong")))
    };
    let (status, body) = match body {
        Answer::Body(body) => (status, Some(body)),
        Answer::Reset(reset) => match perform(lab, node, reset) {
            Ok(()) => (status, None),
            Err(failure) => (Status::FAILED, Some(error("Base.1.0.InternalError", &format!("{failure:#}")))),
        },
    };
    respond(stream, status, body.as_ref())
}

/// Requests are small; anything that isn't is refused before it takes memory.
fn read_request(stream: &TcpStream) -> Result<Request> {
    let mut reader = BufReader::new(stream.take(64 * 1024));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 {
            bail!("the request ended within its head");
        }
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => value.trim().clone_into(&mut authorization),
            "content-length" => length = value.trim().parse().context("not a length")?,
            _ => {}
        }
    }
    if length > 32 * 1024 {
        bail!("a body of {length} bytes");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, authorization, body })
}

fn authorized(header: &str, password: &str) -> bool {
    let given = header.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text.trim()).ok());
    given.is_some_and(|given| given == format!("{USER}:{password}").into_bytes())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Status(u16, &'static str);

impl Status {
    const OK: Self = Self(200, "OK");
    const DONE: Self = Self(204, "No Content");
    const BAD: Self = Self(400, "Bad Request");
    const UNAUTHORIZED: Self = Self(401, "Unauthorized");
    const NOT_FOUND: Self = Self(404, "Not Found");
    const NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    const FAILED: Self = Self(500, "Internal Server Error");
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reset {
    Off,
    On,
    Restart,
}

#[derive(PartialEq, Debug)]
enum Answer {
    Body(Value),
    Reset(Reset),
}

/// What to answer: pure, so that it can be tested as a table.
fn answer(method: &str, path: &str, body: &[u8], node: &Node) -> (Status, Answer) {
    let system = format!("/redfish/v1/Systems/{}", node.name);
    let reset = format!("{system}/Actions/ComputerSystem.Reset");
    let path = path.trim_end_matches('/');
    match (method, path) {
        ("GET", "/redfish/v1") => (
            Status::OK,
            Answer::Body(json!({"@odata.id": "/redfish/v1", "RedfishVersion": "1.6.0",
                "Systems": {"@odata.id": "/redfish/v1/Systems"}})),
        ),
        ("GET", "/redfish/v1/Systems") => (
            Status::OK,
            Answer::Body(
                json!({"@odata.id": path, "Members@odata.count": 1, "Members": [{"@odata.id": system}]}),
            ),
        ),
        ("GET", found) if found == system => (Status::OK, Answer::Body(describe(node, &system, &reset))),
        ("POST", found) if found == reset => reset_of(body),
        (_, found)
            if found == reset
                || found == system
                || found.starts_with("/redfish/v1/Systems") && found.len() == 19 =>
        {
            (Status::NOT_ALLOWED, Answer::Body(error("Base.1.0.ActionNotSupported", "method not allowed")))
        }
        _ => (Status::NOT_FOUND, Answer::Body(error("Base.1.0.ResourceMissingAtURI", "no such resource"))),
    }
}

fn describe(node: &Node, system: &str, reset: &str) -> Value {
    json!({
        "@odata.id": system, "@odata.type": "#ComputerSystem.v1_5_0.ComputerSystem",
        "Id": node.name, "Name": node.name, "HostName": node.name, "UUID": node.system_uuid(),
        "PowerState": if node.power == Power::Off { "Off" } else { "On" },
        "Actions": {"#ComputerSystem.Reset": {"target": reset,
            "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart"]}},
    })
}

fn reset_of(body: &[u8]) -> (Status, Answer) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let reset = match body["ResetType"].as_str() {
        Some("On" | "ForceOn") => Reset::On,
        Some("ForceOff") => Reset::Off,
        Some("ForceRestart" | "PowerCycle") => Reset::Restart,
        _ => {
            let said = "ResetType must be On, ForceOff or ForceRestart";
            return (Status::BAD, Answer::Body(error("Base.1.0.ActionParameterNotSupported", said)));
        }
    };
    (Status::DONE, Answer::Reset(reset))
}

fn error(code: &str, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}})
}

fn perform(lab: &Lab, node: &str, reset: Reset) -> Result<()> {
    eprintln!("bmc of {node}: {reset:?}");
    if reset != Reset::On {
        lab.power_off(node)?;
    }
    if reset != Reset::Off {
        lab.power_on(node)?;
    }
    Ok(())
}

fn respond(mut stream: &TcpStream, status: Status, body: Option<&Value>) -> Result<()> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let challenge =
        if status == Status::UNAUTHORIZED { "WWW-Authenticate: Basic realm=\"bmc\"\r\n" } else { "" };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length =
        if status == Status::DONE { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!(
        "HTTP/1.1 {} {}\r\n{challenge}{kind}{length}OData-Version: 4.0\r\nConnection: close\r\n\r\n",
        status.0, status.1
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let mut node = crate::node::describe(1).unwrap();
        node.power = Power::On;
        node.machine_id = "0123456789abcdef0123456789abcdef".to_owned();
        node
    }

    #[test]
    fn requests_and_answers() {
        let system = "/redfish/v1/Systems/node1";
        let reset = "/redfish/v1/Systems/node1/Actions/ComputerSystem.Reset";
        for (method, path, body, status) in [
            ("GET", "/redfish/v1/", "", 200),
            ("GET", "/redfish/v1/Systems", "", 200),
            ("GET", system, "", 200),
            ("GET", "/redfish/v1/Systems/node2", "", 404),
            ("POST", reset, r#"{"ResetType":"ForceOff"}"#, 204),
            ("POST", reset, r#"{"ResetType":"On"}"#, 204),
            ("POST", reset, r#"{"ResetType":"Nmi"}"#, 400),
            ("POST", reset, "rubbish", 400),
            ("DELETE", system, "", 405),
            ("GET", reset, "", 405),
            ("GET", "/", "", 404),
        ] {
            assert_eq!(answer(method, path, body.as_bytes(), &node()).0.0, status, "{method} {path} {body}");
        }
        assert_eq!(read(&node())["UUID"], "01234567-89ab-cdef-0123-456789abcdef");
    }

    fn read(node: &Node) -> Value {
        match answer("GET", "/redfish/v1/Systems/node1", b"", node).1 {
            Answer::Body(body) => body,
            Answer::Reset(_) => Value::Null,
        }
    }

    #[test]
    fn off_is_said_only_when_the_volumes_are_cut_too() {
        for (power, said) in [(Power::On, "On"), (Power::Cutting(Vec::new()), "On"), (Power::Off, "Off")] {
            let node = Node { power, ..node() };
            assert_eq!(read(&node)["PowerState"], said, "{:?}", node.power);
        }
    }

    #[test]
    fn only_the_password_opens() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert!(authorized(&basic("admin:secret"), "secret"));
        for wrong in [basic("admin:other"), basic("root:secret"), "Bearer secret".to_owned(), String::new()] {
            assert!(!authorized(&wrong, "secret"), "{wrong}");
        }
    }
}
