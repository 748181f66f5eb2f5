use super::*;

type Fields = (String, String, u64, String);

fn read_text(text: &str) -> Result<Vec<Fields>, (u64, String)> {
    match read(text.as_bytes()) {
        Ok(rows) => Ok(rows.into_iter().map(|r| (r.address, r.password, r.quota_octets, r.store)).collect()),
        Err(error) => Err((error.line, error.what)),
    }
}

fn one(address: &str, password: &str, quota: u64, store: &str) -> Vec<Fields> {
    vec![(address.into(), password.into(), quota, store.into())]
}

#[test]
fn what_is_well_formed_is_read() {
    for (text, expected) in [
        ("", vec![]),
        ("\n\r\n# a comment, with \"quotes\"\n", vec![]),
        ("a@b.c", one("a@b.c", "", 0, "")),
        ("a@b.c,pw,5,s-0\r\n", one("a@b.c", "pw", 5, "s-0")),
        ("\u{feff}address,password\na@b.c,pw\n", one("a@b.c", "pw", 0, "")),
        ("store,Address , quota_octets\ns-1,a@b.c,7\n", one("a@b.c", "", 7, "s-1")),
        ("a@b.c, p w ,,\n", one("a@b.c", " p w ", 0, "")),
        ("a@b.c,\"p,\"\"w\"\"\"\n", one("a@b.c", "p,\"w\"", 0, "")),
        ("a@b.c,\"p\nw\",3\n", one("a@b.c", "p\nw", 3, "")),
        ("\"\"\"a,b\"\"@b.c\",pw\n", one("\"a,b\"@b.c", "pw", 0, "")),
    ] {
        assert_eq!(read_text(text), Ok(expected), "{text:?}");
    }
}

#[test]
fn what_is_damaged_is_named_by_its_line() {
    let long = format!("a@b.c\n{}\n", "x".repeat(MAX_RECORD + 1));
    let endless = format!("a@b.c\nb@b.c,\"{}", "pw\n".repeat(MAX_RECORD));
    for (text, line, part) in [
        ("a@b.c\nb@b.c,\"pw\n", 2, "not closed"),
        ("a@b.c\nb@b.c,p\"w\"\n", 2, "a quote inside"),
        ("a@b.c,\"pw\"x\n", 1, "follows a closing quote"),
        ("a@b.c,1,2,3,4\n", 1, "more than four"),
        ("address\na@b.c,pw\n", 2, "more fields than columns"),
        ("address,address\n", 1, "twice"),
        ("address,colour\n", 1, "unknown column"),
        ("password,store\n", 1, "address is missing"),
        ("a@b.c,pw,many\n", 1, "not a number"),
        ("a@b.c,pw,-1\n", 1, "not a number"),
        ("a@b.c,\"p\nw\"\n,pw\n", 3, "no address"),
        (long.as_str(), 2, "longer than"),
        (endless.as_str(), 2, "longer than"),
    ] {
        let (at, what) = read_text(text).unwrap_err();
        assert!(at == line && what.contains(part), "{}: {at} {what}", &text[..text.len().min(60)]);
        assert!(!what.contains("pw"), "no password in messages");
    }
    assert_eq!(read(&b"a@b.c,\xff\n"[..]).err().map(|e| e.line), Some(1));
}

#[test]
fn what_is_written_reads_back() {
    for field in ["", "plain", "a,b", "a\"b\"", "two\nlines", "# no comment", "{SSHA}x=="] {
        let text = format!("a@b.c,{}\n", quoted(field));
        assert_eq!(read_text(&text), Ok(one("a@b.c", field, 0, "")), "{text:?}");
    }
}

#[test]
fn nothing_makes_it_panic() {
    let base = "address,password\na@b.c,\"p,\"\"w\"\"\",3,s\r\n\u{feff}é@b.c,\"\n\"\n".as_bytes();
    for at in 0..base.len() {
        for byte in [b'"', b',', b'\n', 0, 0xff] {
            let mut bytes = base.to_vec();
            bytes[at] = byte;
            let _ = read(&bytes[..]);
            let _ = read(&bytes[..at]);
        }
    }
}
