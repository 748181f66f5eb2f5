//! Does what is there still say all that was applied? Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

/// A stable hash of an object as it would be applied: FNV-1a, 64 bit, of its JSON with sorted keys.
#[must_use]
pub fn fingerprint(desired: &Value) -> String {
    let text = canonical(desired);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// JSON with the keys of every object sorted.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, String> = map.iter().map(|(k, v)| (k, canonical(v))).collect();
            let fields: Vec<String> = sorted.into_iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// True when every field of `desired` has its value in `live`. What only `live` has are defaults and others' fields;
/// where others have no business, `surplus` finds them.
#[must_use]
pub fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            desired.iter().all(|(key, want)| match live.get(key) {
                Some(Value::Array(have)) if key == "finalizers" => contains_all(have, want),
                Some(have) => covers(have, want),
                None => is_nothing(want),
            })
        }
        (Value::Array(live), Value::Array(desired)) => lists(live, desired),
        (Value::String(live), Value::String(desired)) => live == desired || same_quantity(live, desired),
        (live, desired) => live == desired,
    }
}

/// A field that is left out by the API server when it is empty.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Other controllers have finalizers of their own.
fn contains_all(live: &[Value], desired: &Value) -> bool {
    desired.as_array().is_some_and(|items| items.iter().all(|item| live.contains(item)))
}

/// Lists of objects may have been added to by others, which an apply would not take back; other lists are ours alone.
fn lists(live: &[Value], desired: &[Value]) -> bool {
    if desired.iter().all(Value::is_object) && !desired.is_empty() {
        desired.iter().all(|want| live.iter().any(|have| covers(have, want)))
    } else {
        live.len() == desired.len() && live.iter().zip(desired).all(|(have, want)| covers(have, want))
    }
}

/// `1000m` is written back as `1`.
pub(super) fn same_quantity(live: &str, desired: &str) -> bool {
    match (amount(live), amount(desired)) {
        (Some(live), Some(desired)) => (live - desired).abs() <= desired.abs() * 1e-9,
        _ => false,
    }
}

/// The number a quantity stands for.
fn amount(text: &str) -> Option<f64> {
    let text = Quantity(text.to_owned()).0;
    let digits =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => return None,
    };
    number.parse::<f64>().ok().map(|n| n * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hash_does_not_depend_on_the_order_of_keys() {
        assert_eq!(fingerprint(&json!({"a": 1, "b": [1, 2]})), fingerprint(&json!({"b": [1, 2], "a": 1})));
        assert_ne!(fingerprint(&json!({"b": [1, 2]})), fingerprint(&json!({"b": [2, 1]})));
        // A new version of the operator must come to the same, or it would write every child anew.
        assert_eq!(fingerprint(&json!({"a": "x"})), "067830a3a8bd48fc");
    }

    #[test]
    fn drift_is_told_from_defaults() {
        for (name, live, desired, covered) in [
            ("a default was added", json!({"a": 1, "d": 2}), json!({"a": 1}), true),
            ("edited", json!({"a": 2}), json!({"a": 1}), false),
            ("removed", json!({}), json!({"a": 1}), false),
            ("an empty map was dropped", json!({}), json!({"a": {}}), true),
            ("an element got a default", json!([{"n": "x", "d": 1}]), json!([{"n": "x"}]), true),
            ("an element of another's", json!([{"n": "y"}, {"n": "x"}]), json!([{"n": "x"}]), true),
            ("an element is gone", json!([{"n": "y"}]), json!([{"n": "x"}]), false),
            ("an argument was added", json!(["a", "b"]), json!(["a"]), false),
            (
                "a finalizer of another's",
                json!({"finalizers": ["a", "b"]}),
                json!({"finalizers": ["b"]}),
                true,
            ),
            ("a finalizer is gone", json!({"finalizers": ["a"]}), json!({"finalizers": ["b"]}), false),
            ("a quantity in another form", json!("1"), json!("1000m"), true),
            ("1Gi", json!("1Gi"), json!("1024Mi"), true),
            ("another quantity", json!("2"), json!("1000m"), false),
            ("another text", json!("abc"), json!("abd"), false),
        ] {
            assert_eq!(covers(&live, &desired), covered, "{name}");
        }
    }
}
