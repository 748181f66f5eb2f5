//! What the figures of `delivery` are to reach: the field `limit` of its rows, in the terms of `ratio`.

use serde_json::{Value, json};

const KIB_8: usize = 8 << 10;
const KIB_100: usize = 100 << 10;

/// The least ratio that is wanted on this path; null where nothing is promised.
pub fn goal(path: &str, clients: usize, size: usize, recipients: usize) -> Value {
    match (path, clients, size, recipients) {
        ("single", 64, KIB_8, 1) => json!(10.0),
        ("single", 1, _, _) => json!(1.0),
        ("engine", 64, KIB_100, _) => json!(0.7),
        ("engine", 64, _, _) => json!(0.5),
        ("preferred", 64, ..) => json!(0.9),
        ("required", 64, ..) => json!(0.6),
        _ => Value::Null,
    }
}
