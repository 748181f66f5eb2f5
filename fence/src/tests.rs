use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
};

use super::*;
use config::{ConfigError, Url};

fn mount(dir: &Path, url: &str) {
    for (name, text) in [("username", "admin\n"), ("password", "secret"), ("n1.url", url)] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "NODE" => Some("n1".into()),
        "NODE_UID" => Some("u".into()),
        "BOOT_ID" => Some("b".into()),
        _ => None,
    }
}

/// A controller that gives these answers in turn, and the requests that it got.
fn controller(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/redfish/v1/Systems/n1", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        answers
            .into_iter()
            .map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0; 1];
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                let head = String::from_utf8(request).unwrap();
                let length = head.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap();
                let mut body = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut body).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                head + &String::from_utf8(body).unwrap()
            })
            .collect()
    });
    (url, served)
}

const ON: &str = "HTTP/1.1 200 OK\r\n\r\n{\"PowerState\":\"On\",\"Actions\":{\"#ComputerSystem.Reset\":{\"target\":\"/reset\"}}}";
const OFF: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Pow\r\n11\r\nerState\":\"Off\"}  \r\n0\r\n\r\n";
const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[test]
fn zero_only_after_off_was_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (url, served) = controller(vec![ON, DONE, ON, OFF]);
    mount(dir.path(), &url);
    assert_eq!(fence(dir.path(), env).unwrap(), "n1");
    let requests = served.join().unwrap();
    assert!(requests[0].starts_with("GET /redfish/v1/Systems/n1 HTTP/1.1\r\n"));
    assert!(requests[0].contains("Authorization: Basic YWRtaW46c2VjcmV0\r\n"));
    assert!(requests[1].starts_with("POST /reset ") && requests[1].ends_with("{\"ResetType\":\"ForceOff\"}"));
    assert!(requests[3].starts_with("GET "));
}

#[test]
fn what_may_pass_is_75_and_the_rest_is_not() {
    let cases = [
        ("HTTP/1.1 503 Busy\r\n\r\n", TEMPORARY),
        ("HTTP/1.1 429 Slow\r\n\r\n", TEMPORARY),
        ("HTTP/1.1 401 No\r\n\r\n", BLOCKED),
        ("HTTP/1.1 404 No\r\n\r\n", BLOCKED),
        ("HTTP/1.1 200 OK\r\n\r\n{}", BLOCKED),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"PowerState\":\"Off\"}", TEMPORARY),
        ("rubbish", TEMPORARY),
    ];
    for (answer, code) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (url, served) = controller(vec![answer]);
        mount(dir.path(), &url);
        assert_eq!(fence(dir.path(), env).unwrap_err().exit_code(), code, "{answer}");
        served.join().unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    mount(dir.path(), "http://127.0.0.1:1/x");
    assert_eq!(fence(dir.path(), env).unwrap_err().exit_code(), TEMPORARY, "nobody listens");
    assert_eq!(fence(dir.path(), |_| None).unwrap_err().exit_code(), BLOCKED);
}

#[test]
fn steps() {
    let system = |state: &str, target: &str| {
        format!(
            r##"{{"PowerState":"{state}","Actions":{{"#ComputerSystem.Reset":{{"target":"{target}"}}}}}}"##
        )
    };
    assert_eq!(power::next(&system("Off", "/r"), false), Ok(Step::Done));
    assert_eq!(power::next(&system("On", "/r"), false), Ok(Step::Tell("/r".into())));
    assert_eq!(power::next(&system("PoweringOff", "/r"), true), Ok(Step::Wait("PoweringOff".into())));
    assert!(power::next(&system("On", "http://elsewhere/"), false).is_err());
    assert!(power::next(&system("On", "/a b"), false).is_err());
    assert!(power::next("[]", false).is_err());
}

#[test]
fn addresses() {
    let url = |text: &str| Url::parse(text).map(|u| (u.tls, u.host.to_string(), u.port, u.path));
    assert_eq!(url("https://10.0.0.5/a").unwrap(), (true, "10.0.0.5".into(), 443, "/a".into()));
    assert_eq!(url("http://10.0.0.5:8001/a/b").unwrap(), (false, "10.0.0.5".into(), 8001, "/a/b".into()));
    assert_eq!(url("https://[fd00::1]/").unwrap(), (true, "fd00::1".into(), 443, "/".into()));
    assert_eq!(url("https://[fd00::1]:8443/").unwrap().2, 8443);
    for bad in ["10.0.0.5", "ftp://10.0.0.5/", "http://bmc.example/", "http://10.0.0.5/a b", ""] {
        assert!(matches!(Url::parse(bad), Err(ConfigError::Url(_))), "{bad}");
    }
}
