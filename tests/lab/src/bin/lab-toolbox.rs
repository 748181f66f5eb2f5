//! The program in the lab's own test pods: a server, a client and a writer, without a shell or anything else.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: lab-toolbox serve PORT | connect ADDRESS:PORT [TEXT] | append FILE TEXT [sync] | cat FILE | sleep";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lab-toolbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> std::io::Result<String> {
    match words {
        ["serve", port] => serve(port.parse().map_err(std::io::Error::other)?),
        ["connect", address] => connect(address, ""),
        ["connect", address, text] => connect(address, &text.replace("\\r\\n", "\r\n")),
        ["append", file, text, rest @ ..] => {
            let mut file = File::options().create(true).append(true).open(file)?;
            writeln!(file, "{text}")?;
            if rest == ["sync"] {
                file.sync_all()?;
            }
            Ok(String::new())
        }
        ["cat", file] => std::fs::read_to_string(file),
        ["sleep"] => loop {
            std::thread::park();
        },
        _ => Err(std::io::Error::other(USAGE)),
    }
}

/// Tells every client this pod's name and the client's address.
fn serve(port: u16) -> std::io::Result<String> {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    loop {
        let Ok((mut stream, peer)) = listener.accept() else { continue };
        let _client_left = writeln!(stream, "{} {}", name.trim(), peer.ip());
    }
}

fn connect(address: &str, text: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(3);
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
