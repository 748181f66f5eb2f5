//! Whom the tokens beside requests are for.

/// The audience of tokens for a cluster's administration: a token that admits there is good for nothing else, and
/// tokens for the API server do not admit there.
#[must_use]
pub fn admin(namespace: &str, cluster: &str) -> String {
    format!("mailcluster.io/{namespace}/{cluster}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn clusters_of_one_name_in_two_namespaces_differ() {
        assert_eq!(super::admin("mail", "demo"), "mailcluster.io/mail/demo");
        assert_ne!(super::admin("mail", "demo"), super::admin("post", "demo"));
    }
}
