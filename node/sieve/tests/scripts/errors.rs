//! Scripts that are refused, where, and what their authors are told.

use mailcluster_sieve::{Capabilities, Capability, Limits, Script};

fn refusal(script: &str) -> String {
    match Script::compile(script.as_bytes(), &Capabilities::all(), &Limits::default()) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Each script is refused with an error that begins so.
fn refused(table: &[(&str, &str)]) {
    for (script, error) in table {
        let found = refusal(script);
        assert!(found.starts_with(error), "{script:?}\n  {found}\n  {error}");
    }
}

#[test]
fn the_grammar() {
    for (script, error) in [
        ("keep", "line 1, column 5: \"keep\" is not complete: a ; or a block is expected here"),
        ("keep;\n discard }", "line 2, column 10: \"discard\" is not complete"),
        ("keep; }", "line 1, column 7: there is no block that this } would close"),
        ("if true { keep;", "line 1, column 9: this block does not end"),
        ("if true keep;", "line 1, column 9: "),
        ("if true;", "line 1, column 1: if needs a block"),
        ("if { keep; }", "line 1, column 1: if needs a test"),
        ("if (true, false) { keep; }", "line 1, column 5: if takes one test"),
        ("if not (true) { keep; }", "line 1, column 4: not takes one test"),
        ("if anyof true { keep; }", "line 1, column 4: anyof takes a list of tests in ( )"),
        ("if anyof () { keep; }", "line 1, column 11: a test is expected here"),
        ("if anyof (true { keep; }", "line 1, column 16: a , or ) is expected"),
        ("if true { keep; } else if true { keep; }", "line 1, column 24: else takes no tests"),
        ("elsif true { keep; }", "line 1, column 1: elsif must follow the block of an if or elsif"),
        ("if true { } else { } else { }", "line 1, column 22: else must follow"),
        ("if true { } keep; else { }", "line 1, column 19: else must follow"),
        ("if true { } if true { } else { } elsif true { }", "line 1, column 34: elsif must follow"),
        ("keep { }", "line 1, column 1: keep takes no block: end it with a ;"),
        ("keep true;", "line 1, column 6: keep takes no tests: is there a ; missing before this?"),
        ("keep\nkeep;", "line 2, column 1: keep takes no tests: is there a ; missing before this?"),
        ("redirect [];", "line 1, column 11: a string in double quotes is expected in this list"),
        ("redirect [\"a\" \"b\"];", "line 1, column 15: a , or ] is expected"),
        ("redirect \"a", "line 1, column 10: this string does not end: close it with \""),
        ("/* x", "line 1, column 1: this comment does not end"),
        ("redirect text:\na\n", "line 1, column 14: this text does not end"),
        ("redirect text: a\n.\n;", "line 1, column 16: the text begins in the line after"),
        ("redirect 'a';", "line 1, column 10: strings stand in double quotes"),
        ("if size :over 10KB { }", "line 1, column 15: a number may end with K, M or G"),
        ("if size :over 99999999999999999999 { }", "line 1, column 15: this number is too large"),
        ("if size :over 99999999999999999G { }", "line 1, column 15: this number is too large"),
        ("if size : over 1 { }", "line 1, column 9: a tag has a name after its \":\""),
        ("kéep;", "line 1, column 2: only strings and comments"),
        ("\"é\";", "line 1, column 1: a command is expected here"),
        ("# é\n\"", "line 2, column 1: this string does not end"),
        ("keep; # é \u{0}", "line 1, column 11: NUL cannot stand in a script"),
        ("keep;\rkeep;", "line 1, column 6: a line ends with CR LF, not with CR alone"),
        ("redirect \"a\rb\";", "line 1, column 12: a line ends with CR LF"),
        ("keep $;", "line 1, column 6: \"$\" means nothing here"),
    ] {
        let found = refusal(script);
        assert!(found.starts_with(error), "{script:?}\n  {found}\n  {error}");
    }
}

#[test]
fn arguments_of_commands() {
    refused(&[
        ("none;", "line 1, column 1: there is no command \"none\""),
        ("header \"a\" \"b\";", "line 1, column 1: header is a test: it goes into an if"),
        ("if keep { }", "line 1, column 4: keep is a command"),
        ("if none { }", "line 1, column 4: there is no test \"none\""),
        ("redirect;", "line 1, column 1: redirect is not complete: it needs an address"),
        ("redirect \"a@b.c\" \"d\";", "line 1, column 18: redirect takes no more arguments"),
        (
            "redirect \"a@b.c\" :copy;",
            "line 1, column 18: tags stand before all else: move :copy to the front",
        ),
        ("redirect 5;", "line 1, column 10: redirect expects an address here"),
        ("redirect [\"a@b.c\"];", "line 1, column 10: redirect expects an address here"),
        ("redirect :none \"a@b.c\";", "line 1, column 10: redirect has no :none"),
        ("redirect \"a@b.c, d@e.f\";", "line 1, column 10: redirect needs one address"),
        ("redirect \"nobody\";", "line 1, column 10: redirect needs one address"),
    ]);
}

#[test]
fn arguments_of_tests() {
    refused(&[
        ("if size 1 { }", "line 1, column 4: size needs :over or :under"),
        ("if size :over :under 1 { }", "line 1, column 15: size takes one of :over and :under"),
        ("if header :is :is \"a\" \"b\" { }", "line 1, column 15: header has :is twice"),
        ("if header :is :contains \"a\" \"b\" { }", "line 1, column 15: header takes one match type"),
        ("if header :all \"a\" \"b\" { }", "line 1, column 11: header has no :all"),
        ("if address :all :domain \"to\" \"b\" { }", "line 1, column 17: address takes one address part"),
        ("if address \"subject\" \"b\" { }", "line 1, column 12: address looks at fields with addresses"),
        (
            "if address [\"to\", \"date\"] \"b\" { }",
            "line 1, column 19: address looks at fields with addresses",
        ),
        ("if header \"a\" { }", "line 1, column 4: header is not complete: it needs strings to compare with"),
        (
            "if header :comparator \"i;none\" \"a\" \"b\" { }",
            "line 1, column 23: there is no comparator \"i;none\"",
        ),
        (
            "if header :comparator \"i;ascii-numeric\" \"a\" \"b\" { }",
            "line 1, column 23: i;ascii-numeric needs \"comparator-i;ascii-numeric\"",
        ),
        (
            "require \"comparator-i;ascii-numeric\"; if header :contains :comparator \"i;ascii-numeric\" \"a\" \"b\" { }",
            "line 1, column 42: i;ascii-numeric compares numbers",
        ),
        (
            "require \"relational\"; if header :value \"xx\" \"a\" \"b\" { }",
            "line 1, column 40: a relation is",
        ),
        ("require \"envelope\"; if envelope \"by\" \"x\" { }", "line 1, column 33: an envelope has"),
        ("require \"index\"; if header :index 0 \"a\" \"b\" { }", "line 1, column 28: :index counts from 1"),
        ("require \"index\"; if header :last \"a\" \"b\" { }", "line 1, column 28: :last needs an :index"),
    ]);
}

#[test]
fn arguments_of_extensions() {
    refused(&[
        ("require \"date\"; if date \"date\" \"eon\" \"1\" { }", "line 1, column 32: parts of dates are"),
        (
            "require \"date\"; if date :zone \"EST\" \"date\" \"day\" \"1\" { }",
            "line 1, column 31: a zone is",
        ),
        (
            "require \"date\"; if date :zone \"+0000\" :originalzone \"date\" \"day\" \"1\" { }",
            "line 1, column 39: date takes one of",
        ),
        (
            "require \"date\"; if currentdate :originalzone \"day\" \"1\" { }",
            "line 1, column 32: currentdate has no",
        ),
        ("require \"body\"; if body :raw :text \"x\" { }", "line 1, column 30: body takes one of"),
        (
            "require \"vacation\"; vacation :days 1 :days 2 \"x\";",
            "line 1, column 38: vacation has :days twice",
        ),
        (
            "require \"vacation-seconds\"; vacation :days 1 :seconds 2 \"x\";",
            "line 1, column 46: vacation takes one of :days and :seconds",
        ),
        ("require \"vacation\"; vacation :from \"x\" \"y\";", "line 1, column 36: :from needs an address"),
        (
            "require \"vacation\"; vacation :mime \"X: é\r\n\r\n\";",
            "line 1, column 36: the header fields of a :mime",
        ),
        (
            "require \"enotify\"; notify :importance \"4\" \"mailto:a@b.c\";",
            "line 1, column 39: :importance is",
        ),
        (
            "require \"duplicate\"; if duplicate :header \"a\" :uniqueid \"b\" { }",
            "line 1, column 47: duplicate takes one of",
        ),
        ("require \"fileinto\"; fileinto \"\";", "line 1, column 30: the name of a mailbox cannot be empty"),
    ]);
    let bytes = b"require \"fileinto\"; fileinto \"\xFF\";";
    let error = Script::compile(bytes, &Capabilities::all(), &Limits::default()).unwrap_err();
    assert!(error.to_string().starts_with("line 1, column 30: this string must be UTF-8"), "{error}");
    assert!(
        Script::compile(b"if header \"a\" \"\xFF\" { }", &Capabilities::all(), &Limits::default()).is_ok()
    );
}

#[test]
fn variables() {
    for (script, error) in [
        ("set \"1\" \"x\";", "column 26: match variables such as ${1} cannot be set"),
        ("set \"a-b\" \"x\";", "column 26: a variable's name consists of"),
        ("set \"\" \"x\";", "column 26: a variable's name consists of"),
        ("set \"${a}\" \"x\";", "column 26: a variable's name consists of"),
        ("set \"a.b\" \"x\";", "column 26: a variable's name consists of"),
        ("set \"a\" \"${b.c}\";", "column 30: no extension here has a variable ${b.c}"),
        ("set \"a\" \"${33}\";", "column 30: match variables go from ${0} to ${32}"),
        ("set \"a\" \"${99999999999999999999}\";", "column 30: match variables go from"),
        ("set :none \"a\" \"b\";", "column 26: set has no :none"),
        ("set :lower :upper \"a\" \"b\";", "column 33: :upper contradicts another modifier"),
        ("set :lower :lower \"a\" \"b\";", "column 33: set has :lower twice"),
        ("set :encodeurl \"a\" \"b\";", "column 26: :encodeurl needs \"enotify\""),
        ("if string :comparator \"${a}\" \"a\" \"b\" { }", "column 44: a comparator cannot have variables"),
    ] {
        let found = refusal(&format!("require \"variables\"; {script}"));
        // The columns are those behind the require, which has 21 characters.
        let error = format!("line 1, {error}");
        assert!(found.starts_with(&error), "{script:?}\n  {found}\n  {error}");
    }
}

#[test]
fn extensions_must_be_required() {
    for (script, extension) in [
        ("fileinto \"a\";", "fileinto"),
        ("redirect :copy \"a@b.c\";", "copy"),
        ("reject \"a\";", "reject"),
        ("ereject \"a\";", "ereject"),
        ("vacation \"a\";", "vacation"),
        ("require \"vacation\"; vacation :seconds 1 \"a\";", "vacation-seconds"),
        ("notify \"mailto:a@b.c\";", "enotify"),
        ("set \"a\" \"b\";", "variables"),
        ("setflag \"a\";", "imap4flags"),
        ("require \"imap4flags\"; setflag \"a\" \"b\";", "variables"),
        ("keep :flags \"a\";", "imap4flags"),
        ("error \"a\";", "ihave"),
        ("require \"fileinto\"; fileinto :create \"a\";", "mailbox"),
        ("require \"fileinto\"; fileinto :mailboxid \"a\" \"b\";", "mailboxid"),
        ("if envelope \"to\" \"a\" { }", "envelope"),
        ("if address :detail \"to\" \"a\" { }", "subaddress"),
        ("if header :value \"eq\" \"a\" \"b\" { }", "relational"),
        ("if header :index 1 \"a\" \"b\" { }", "index"),
        ("if body \"a\" { }", "body"),
        ("if currentdate \"day\" \"1\" { }", "date"),
        ("if string \"a\" \"b\" { }", "variables"),
        ("if hasflag \"a\" { }", "imap4flags"),
        ("if mailboxexists \"a\" { }", "mailbox"),
        ("if mailboxidexists \"a\" { }", "mailboxid"),
        ("if duplicate { }", "duplicate"),
        ("if environment \"a\" \"b\" { }", "environment"),
        ("if valid_notify_method \"a\" { }", "enotify"),
        ("if notify_method_capability \"a\" \"b\" \"c\" { }", "enotify"),
        ("if ihave \"a\" { }", "ihave"),
    ] {
        let found = refusal(script);
        let advice = format!("put require \"{extension}\"; at the beginning of the script");
        assert!(found.contains(&advice), "{script:?}\n  {found}");
        let required = format!("require \"{extension}\"; {script}");
        assert_eq!(refusal(&required), "none", "{required}");
        // A site that does not offer it knows nothing of it.
        let capability = Capability::from_name(extension.as_bytes()).unwrap();
        let offered = Capabilities::all().without(capability);
        let error = Script::compile(required.as_bytes(), &offered, &Limits::default()).unwrap_err();
        assert!(error.message.contains(&format!("there is no extension \"{extension}\" here")), "{error}");
    }
}

#[test]
fn requires() {
    for (script, error) in [
        ("require \"none\";", "line 1, column 9: there is no extension \"none\" here: take it out"),
        (
            "require [\"fileinto\", \"FileInto\"];",
            "line 1, column 22: there is no extension \"FileInto\" here",
        ),
        (
            "require \"include\";",
            "line 1, column 9: there is no \"include\" here: put the other script's commands",
        ),
        ("include \"other\";", "line 1, column 1: there is no include here: put the other script's commands"),
        ("require \"regex\";", "line 1, column 9: there is no extension \"regex\""),
        ("require \"comparator-i;unicode-casemap\";", "line 1, column 9: there is no extension"),
        ("keep; require \"fileinto\";", "line 1, column 7: require must stand at the beginning"),
        ("if true { require \"fileinto\"; }", "line 1, column 11: require must stand at the beginning"),
        ("require;", "line 1, column 1: require is not complete"),
    ] {
        let found = refusal(script);
        assert!(found.starts_with(error), "{script:?}\n  {found}\n  {error}");
    }
    assert_eq!(refusal("require [\"comparator-i;octet\", \"comparator-i;ascii-casemap\"];"), "none");
    let names: Vec<&str> = Capabilities::all().names().collect();
    assert!(names.is_sorted() && names.len() == 24, "{names:?}");
}

#[test]
fn scripts_of_many_editors() {
    for script in [
        "",
        "# only a comment",
        "\u{FEFF}keep;",
        "KEEP;",
        "IF NOT TRUE { Keep; } ELSE { stop; }",
        "require \"fileinto\"; fileinto TEXT: # comment\r\nname\r\n.\r\n;",
        "if header :Contains \"a\" \"b\" { }",
        "if header\t:is/* c */\"a\"# d\n\"b\"{keep;}",
    ] {
        assert_eq!(refusal(script), "none", "{script:?}");
    }
    // Dots are taken off where they were put in, lines end with CRLF in any case.
    let script = "require \"reject\"; reject text:\na\n..b\n.c\n\n.\n;";
    assert_eq!(crate::run(script, "X: y\n\n"), "reject a\r\n.b\r\n.c");
    assert_eq!(
        crate::run("require \"reject\"; reject \"a\\\"b\\\\c\\d\ne\";", "X: y\n\n"),
        "reject a\"b\\cd\r\ne"
    );
}

#[test]
fn warnings() {
    let script = "require [\"relational\", \"enotify\"];
if header :count \"gt\" \"from:\" \"9\" { stop; keep; }
notify \"tel:1\";";
    let warnings = crate::compile(script).warnings().to_vec();
    let told: Vec<String> =
        warnings.iter().map(|warning| format!("{} {}", warning.at, warning.message)).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[0].starts_with("line 2, column 4 :count compares as text"), "{told:?}");
    assert!(told[1].starts_with("line 2, column 23 the name of a field has no colon"), "{told:?}");
    assert!(told[2].starts_with("line 2, column 43 what follows a stop"), "{told:?}");
    assert!(told[3].starts_with("line 3, column 8 this notification will fail"), "{told:?}");
}
