//! The generated definitions and their reference are fresh, and no field has a name that YAML 1.1 reads as a boolean.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::Value;

#[test]
fn crds_are_fresh() {
    for (name, text) in mailcluster_api::crd::render().unwrap() {
        for folder in ["crds", "charts/mailcluster/files/crds"] {
            let path = format!("{}/../{folder}/{name}", env!("CARGO_MANIFEST_DIR"));
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == text, "{path} is stale: run `cargo xtask generate`");
        }
    }
}

#[test]
fn the_reference_is_fresh() {
    for (name, text) in mailcluster_api::reference::render().unwrap() {
        let path = format!("{}/../docs/reference/{name}", env!("CARGO_MANIFEST_DIR"));
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{path} is stale: run `cargo xtask generate`");
    }
}

#[test]
fn no_field_is_a_boolean_of_yaml_1_1() {
    fn walk(value: &Value, path: &str) {
        match value {
            Value::Object(map) => {
                for (key, child) in map {
                    let bad = ["on", "off", "yes", "no", "y", "n", "true", "false", "null", "~"];
                    assert!(!bad.contains(&key.to_lowercase().as_str()), "{path}.{key}");
                    walk(child, &format!("{path}.{key}"));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, path)),
            _ => {}
        }
    }
    for (name, crd) in mailcluster_api::crd::all() {
        walk(&serde_json::to_value(crd).unwrap(), name);
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    for ((_, crd), (_, text)) in
        mailcluster_api::crd::all().into_iter().zip(mailcluster_api::crd::render().unwrap())
    {
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, serde_json::to_value(crd).unwrap());
    }
}
