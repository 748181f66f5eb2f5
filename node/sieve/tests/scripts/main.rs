//! Scripts over messages: what RFCs say, what is refused, and what hostile ones do.

mod actions;
mod errors;
mod examples;
mod hostile;
mod mail;
mod table;

use mail::{ACCOUNT, Message, context};
use mailcluster_sieve::{Action, Capabilities, Context, Limits, Outcome, Script};

/// Compiles a script that must be right.
pub fn compile(script: &str) -> Script {
    Script::compile(script.as_bytes(), &Capabilities::all(), &Limits::default())
        .unwrap_or_else(|error| panic!("{error}\n{script}"))
}

/// Runs a script over a message.
pub fn run_with(script: &str, message: &str, context: &Context<'_>) -> Outcome {
    compile(script).run(&Message::new(message), context)
}

/// The same for an account where nothing is special, told in words.
pub fn run(script: &str, message: &str) -> String {
    tell(&run_with(script, message, &context(ACCOUNT)))
}

/// An outcome in words, such as `fileinto spam, redirect a@b.c`. The implicit keep is `(keep)`.
pub fn tell(outcome: &Outcome) -> String {
    let words = outcome.actions.iter().map(|planned| {
        let flags = |flags: &[String]| {
            if flags.is_empty() { String::new() } else { format!(" [{}]", flags.join(" ")) }
        };
        match &planned.action {
            Action::Keep { flags: f } if planned.at.is_none() => format!("(keep{})", flags(f)),
            Action::Keep { flags: f } => format!("keep{}", flags(f)),
            Action::FileInto(into) => {
                let create = if into.create { ":create " } else { "" };
                let copy = if into.copy { ":copy " } else { "" };
                let id = into.mailbox_id.as_ref().map_or(String::new(), |id| format!(":mailboxid {id} "));
                format!("fileinto {copy}{create}{id}{}{}", into.mailbox, flags(&into.flags))
            }
            Action::Redirect { address, copy: true } => format!("redirect :copy {address}"),
            Action::Redirect { address, copy: false } => format!("redirect {address}"),
            Action::Discard => "discard".to_owned(),
            Action::Reject { reason, in_protocol } => {
                format!("{} {}", if *in_protocol { "ereject" } else { "reject" }, reason.trim_end())
            }
            Action::Vacation(vacation) => format!("vacation {}: {}", vacation.subject, vacation.reason),
            Action::Notify(notify) => {
                let told: Vec<&str> = notify.to.iter().chain(&notify.cc).map(String::as_str).collect();
                format!("notify {}: {}", told.join(" "), notify.subject)
            }
        }
    });
    let mut words: Vec<String> = words.collect();
    words.extend(outcome.error.as_ref().map(|error| format!("error {error}")));
    words.join(", ")
}

/// Whether a test is true of a message, with the extensions that its script requires.
pub fn holds(requires: &str, test: &str, message: &str) -> bool {
    let script = format!("{requires} if {test} {{ discard; }}");
    match run(&script, message).as_str() {
        "discard" => true,
        "(keep)" => false,
        other => panic!("{other}\n{script}"),
    }
}
