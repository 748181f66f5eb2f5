//! The reference of both kinds as Markdown, read from their schemas: what stands in `docs/reference/`.

use serde_json::{Map, Value};

use crate::crd;

/// What Kubernetes itself defines and describes.
const KUBERNETES_OWN: [(&str, &str); 2] = [("conditions", "Condition"), ("tolerations", "Toleration")];

/// File names and contents.
///
/// # Errors
/// When a definition cannot be read as JSON, which would be a defect of this crate.
pub fn render() -> Result<Vec<(&'static str, String)>, serde_json::Error> {
    let names = ["mailcluster.md", "mailstore.md"];
    let definitions = names.into_iter().zip(crd::all());
    definitions.map(|(name, (_, crd))| Ok((name, page(&serde_json::to_value(&crd)?)))).collect()
}

/// One kind.
fn page(crd: &Value) -> String {
    let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/spec/names/kind");
    let short: Vec<String> =
        strings(crd.pointer("/spec/names/shortNames")).map(|name| format!("`{name}`")).collect();
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let of = |field: &str| crd.pointer(&format!("{schema}/properties/{field}"));
    let mut lines = vec![
        format!("# {kind}"),
        String::new(),
        "This file is generated from `api/` by `cargo xtask generate`; do not edit.".to_owned(),
        String::new(),
        text(&format!("{schema}/description")).to_owned(),
        String::new(),
        format!(
            "`apiVersion: {}/{}`, short: {}; `kubectl get mail` lists both kinds.",
            text("/spec/group"),
            text("/spec/versions/0/name"),
            short.join(", ")
        ),
    ];
    for field in ["spec", "status"] {
        let mut rows = Vec::new();
        if let Some(schema) = of(field) {
            // With its own row where it has rules that bind several fields.
            if !rules(schema).is_empty() {
                rows.push(row(field, schema, false));
            }
            walk(field, schema, &mut rows);
        }
        lines.extend([String::new(), format!("## {field}"), String::new()]);
        lines.push("| field | type | default | constraints | what |".to_owned());
        lines.push("|---|---|---|---|---|".to_owned());
        lines.extend(rows);
    }
    lines.join("\n") + "\n"
}

/// A row for each field of an object, and for the fields of those.
fn walk(path: &str, schema: &Value, rows: &mut Vec<String>) {
    let required: Vec<&str> = strings(schema.get("required")).collect();
    for (name, field) in schema["properties"].as_object().unwrap_or(&Map::new()) {
        let path = format!("{path}.{name}");
        rows.push(row(&path, field, required.contains(&name.as_str())));
        if foreign(&path).is_some() {
            continue;
        }
        walk(&path, field, rows);
        walk(&format!("{path}[]"), &field["items"], rows);
    }
}

fn row(path: &str, field: &Value, required: bool) -> String {
    let default = match &field["default"] {
        // The defaults of an object's fields stand with them.
        Value::Null | Value::Object(_) => String::new(),
        value => format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    };
    let kind = foreign(path).map_or_else(|| type_of(field), |kind| format!("list of {kind} (Kubernetes)"));
    let cells = [
        format!("`{path}`"),
        kind,
        default,
        constraints(field, required).join("; "),
        field["description"].as_str().unwrap_or_default().to_owned(),
    ];
    format!("| {} |", cells.map(|cell| escaped(&cell)).join(" | "))
}

fn foreign(path: &str) -> Option<&'static str> {
    let name = path.rsplit('.').next().unwrap_or_default();
    KUBERNETES_OWN.iter().find(|(own, _)| *own == name).map(|(_, kind)| *kind)
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "quantity".to_owned();
    }
    let of = |part: &str| type_of(&field[part]);
    match (field["type"].as_str().unwrap_or("any"), field["format"].as_str()) {
        ("array", _) => format!("list of {}", of("items")),
        ("object", _) if field["additionalProperties"].is_object() => {
            format!("map to {}", of("additionalProperties"))
        }
        ("string", Some("date-time")) => "time".to_owned(),
        (kind, _) => kind.to_owned(),
    }
}

fn constraints(field: &Value, required: bool) -> Vec<String> {
    let mut found: Vec<String> = required.then(|| "required".to_owned()).into_iter().collect();
    let named = field.get("enum").or_else(|| field.pointer("/items/enum"));
    let values: Vec<String> = strings(named).map(|value| format!("`{value}`")).collect();
    if !values.is_empty() {
        found.push(values.join(", "));
    }
    let bound = |key: &str| field[key].as_f64().map(|number| number.to_string());
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
    ] {
        found.extend(match (bound(least), bound(most)) {
            (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
            (Some(least), None) => Some(format!("at least {least}{unit}")),
            (None, Some(most)) => Some(format!("at most {most}{unit}")),
            (None, None) => None,
        });
    }
    // What a quantity looks like is known.
    if let Some(pattern) = field["pattern"].as_str().filter(|_| type_of(field) == "string") {
        found.push(format!("`{pattern}`"));
    }
    found.extend(rules(field));
    found
}

/// What the API server says when a rule is broken.
fn rules(field: &Value) -> Vec<String> {
    let rules = field["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["message"].as_str()).map(str::to_owned).collect()
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// In a cell of a table.
fn escaped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_told_with_all_that_binds_them() {
        let schema = json!({"required": ["size"], "properties": {
            "size": {"x-kubernetes-int-or-string": true, "pattern": "^x$", "description": "How much."},
            "mode": {"type": "string", "enum": ["A", "B"], "default": "A"},
            "count": {"type": "integer", "minimum": 1.0, "maximum": 9.0, "description": "How\nmany | all.",
                "x-kubernetes-validations": [{"rule": "x", "message": "never shrinks"}]},
            "names": {"type": "array", "maxItems": 3, "items": {"type": "object",
                "properties": {"at": {"type": "string", "format": "date-time"}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}, "default": {}},
            "conditions": {"type": "array", "items": {"properties": {"reason": {"type": "string"}}}},
        }});
        let mut rows = Vec::new();
        walk("spec", &schema, &mut rows);
        assert_eq!(
            rows,
            [
                "| `spec.conditions` | list of Condition (Kubernetes) |  |  |  |",
                "| `spec.count` | integer |  | 1 to 9; never shrinks | How many \\| all. |",
                "| `spec.labels` | map to string |  |  |  |",
                "| `spec.mode` | string | `A` | `A`, `B` |  |",
                "| `spec.names` | list of object |  | at most 3 entries |  |",
                "| `spec.names[].at` | time |  |  |  |",
                "| `spec.size` | quantity |  | required | How much. |",
            ]
        );
    }
}
