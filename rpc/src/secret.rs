//! Keeps secrets out of debug output.

use std::fmt;

use crate::directory::v1::Secret;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self { value }
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self { value: value.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use crate::directory::v1::{AuthenticateRequest, Secret};

    #[test]
    fn debug_output_has_no_password() {
        let request = AuthenticateRequest { password: Some(Secret::from("hunter2")), ..Default::default() };
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
