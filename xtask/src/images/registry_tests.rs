//! Pushing to a small registry that takes nothing but what the specification says.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use mailcluster_lab::{OciImage, Source};
use serde_json::json;

use super::*;

/// `joe:secret`
const LOGIN: &str = "am9lOnNlY3JldA==";

/// Who may push.
#[derive(Clone, Copy, PartialEq)]
enum Door {
    Open,
    Basic,
    Token,
}

#[derive(Default)]
struct Kept {
    /// Blobs by `repository@digest`, manifests by `repository:tag`.
    things: BTreeMap<String, Vec<u8>>,
    requests: Vec<String>,
}

struct Head {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

fn read_head(reader: &mut impl BufRead) -> Option<Head> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some(Head { method, path, headers })
}

fn serve(stream: &TcpStream, door: Door, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(stream);
    let address = stream.local_addr().unwrap();
    while let Some(head) = read_head(&mut reader) {
        assert!(!head.headers.contains_key("transfer-encoding"), "a registry wants Content-Length");
        let length = head.headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut kept = kept.lock().unwrap();
        kept.requests.push(format!("{} {}", head.method, head.path));
        let (status, extra, text) = answer(&head, body, (door, address.to_string()), &mut kept);
        let mut out = stream;
        let length =
            if head.method == "HEAD" { String::new() } else { format!("Content-Length: {}\r\n", text.len()) };
        let text = if head.method == "HEAD" { String::new() } else { text };
        // Some registries close then. Said, so that the client does not use the connection for its next request.
        let closes = head.method == "HEAD" && status != 200;
        let close = if closes { "Connection: close\r\n" } else { "" };
        write!(out, "HTTP/1.1 {status} x\r\n{extra}{close}{length}\r\n{text}").unwrap();
        if closes {
            return;
        }
    }
}

fn answer(
    head: &Head,
    body: Vec<u8>,
    (door, address): (Door, String),
    kept: &mut Kept,
) -> (u16, String, String) {
    let plain = |status: u16| (status, String::new(), String::new());
    let authorization = head.headers.get("authorization").map(String::as_str);
    if head.path.starts_with("/token?") {
        assert!(head.path.contains("service=here") && head.path.contains("pull%2Cpush"), "{}", head.path);
        let right = authorization == Some(&format!("Basic {LOGIN}"));
        return if right { (200, String::new(), json!({"token": "t"}).to_string()) } else { plain(401) };
    }
    let (wanted, challenge) = match door {
        Door::Open => (None, String::new()),
        Door::Basic => (Some(format!("Basic {LOGIN}")), "Basic realm=\"x\"".to_owned()),
        Door::Token => {
            (Some("Bearer t".to_owned()), format!("Bearer realm=\"http://{address}/token\",service=\"here\""))
        }
    };
    if wanted.is_some() && authorization != wanted.as_deref() {
        return (401, format!("WWW-Authenticate: {challenge}\r\n"), String::new());
    }
    let (repository, rest) = head
        .path
        .strip_prefix("/v2/")
        .unwrap()
        .split_once("/blobs/")
        .unwrap_or_else(|| head.path.strip_prefix("/v2/").unwrap().split_once("/manifests/").unwrap());
    match head.method.as_str() {
        "HEAD" => plain(if kept.things.contains_key(&format!("{repository}@{rest}")) { 200 } else { 404 }),
        "POST" => (202, format!("Location: /v2/{repository}/blobs/uploads/1?state=a\r\n"), String::new()),
        "PUT" if rest.starts_with("uploads/") => {
            let (_, digest) = rest.split_once("?state=a&digest=").unwrap();
            kept.things.insert(format!("{repository}@{digest}"), body);
            plain(201)
        }
        "PUT" => {
            assert_eq!(head.headers["content-type"], "application/vnd.oci.image.manifest.v1+json");
            kept.things.insert(format!("{repository}:{rest}"), body);
            plain(201)
        }
        other => panic!("{other}"),
    }
}

fn registry(door: Door) -> (String, Arc<Mutex<Kept>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let kept = Arc::new(Mutex::new(Kept::default()));
    let shared = kept.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = shared.clone();
            std::thread::spawn(move || serve(&stream, door, &shared));
        }
    });
    (address, kept)
}

fn archive(name: &str) -> (PathBuf, OciArchive) {
    let folder = std::env::temp_dir().join(format!("mailcluster-push-{name}-{}", std::process::id()));
    let file = folder.join("all.tar");
    let images = ["a", "b"].map(|name| {
        let content = Source::Bytes(name.repeat(100_000).into_bytes());
        OciImage::new(&format!("localhost/{name}:1.0"), &["/x"]).file("/x", content, 0o755)
    });
    OciImage::write_all(&images, &file).unwrap();
    (folder, OciArchive::open(&file).unwrap())
}

fn client(address: &str, with_login: bool) -> Registry {
    let target = Target::parse(&format!("{address}/mail")).unwrap();
    let auths = if with_login { json!({"auths": {address: {"auth": LOGIN}}}) } else { json!({}) };
    let login = Login::read(PathBuf::from("config.json"), &auths, &target.host);
    Registry::new(target, login)
}

#[test]
fn images_arrive_whole_whatever_the_registry_asks_for() {
    let (folder, archive) = archive("whole");
    for door in [Door::Open, Door::Basic, Door::Token] {
        let (address, kept) = registry(door);
        let names = client(&address, door != Door::Open).push(&archive).unwrap();
        let again = client(&address, door != Door::Open).push(&archive).unwrap();
        assert_eq!(names, again);
        let kept = kept.lock().unwrap();
        for (image, name) in archive.images().iter().zip(&names) {
            let repository = format!("mail/{}", &image.name[10..11]);
            assert_eq!(*name, format!("{address}/{repository}:1.0@{}", image.digest));
            assert_eq!(kept.things[&format!("{repository}:1.0")], image.manifest);
            for blob in &image.blobs {
                let mut bytes = Vec::new();
                archive.blob(blob).unwrap().0.read_to_end(&mut bytes).unwrap();
                assert!(kept.things[&format!("{repository}@{blob}")] == bytes, "{blob} differs");
            }
        }
        let uploads = kept.requests.iter().filter(|request| request.starts_with("POST")).count();
        let asked = if door == Door::Open { 4 } else { uploads };
        assert_eq!(uploads, asked, "what the registry has is not sent again: {:?}", kept.requests);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_a_login_it_says_how_to_get_one() {
    let (folder, archive) = archive("login");
    let (address, kept) = registry(Door::Basic);
    let said = format!("{:#}", client(&address, false).push(&archive).unwrap_err());
    assert!(said.contains("docker login"), "{said}");
    assert!(kept.lock().unwrap().things.is_empty());
    std::fs::remove_dir_all(folder).unwrap();
}
