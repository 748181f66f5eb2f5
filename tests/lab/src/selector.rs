//! Label selectors.

use serde_json::Value;

/// The elements of a list, none if it isn't there.
pub(crate) fn all(list: &Value) -> Vec<&Value> {
    list.as_array().map(|items| items.iter().collect()).unwrap_or_default()
}

/// Whether a LabelSelector selects an object with these labels; an empty one selects everything.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object();
    equal.is_none_or(|equal| equal.iter().all(|(name, value)| labels[name.as_str()] == *value))
        && all(&selector["matchExpressions"]).iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &Value) -> bool {
    let label = &labels[expression["key"].as_str().unwrap_or_default()];
    let listed = || all(&expression["values"]).contains(&label);
    match expression["operator"].as_str() {
        Some("In") => !label.is_null() && listed(),
        Some("NotIn") => label.is_null() || !listed(),
        Some("Exists") => !label.is_null(),
        Some("DoesNotExist") => label.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors() {
        let labels = json!({"role": "frontend", "tier": "1"});
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"role": "frontend"}}), true),
            (json!({"matchLabels": {"role": "frontend", "tier": "2"}}), false),
            (json!({"matchLabels": {"other": "frontend"}}), false),
            (expression("role", "In", &["backend", "frontend"]), true),
            (expression("absent", "In", &["frontend"]), false),
            (expression("role", "NotIn", &["frontend"]), false),
            (expression("absent", "NotIn", &["frontend"]), true),
            (expression("role", "Exists", &[]), true),
            (expression("absent", "Exists", &[]), false),
            (expression("absent", "DoesNotExist", &[]), true),
            (expression("role", "DoesNotExist", &[]), false),
        ] {
            assert_eq!(matches(&selector, &labels), expected, "{selector}");
        }
        assert!(!matches(&json!({"matchLabels": {"role": "x"}}), &Value::Null));
    }
}
