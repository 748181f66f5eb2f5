//! What is offered (RFC 3501 section 7.2.1). Frontends advertise the same list: only what every backend can do.

/// Offered before the login by whoever speaks this codec, beside `IMAP4rev1`, the AUTH mechanisms and STARTTLS.
pub const BEFORE_LOGIN: &[&str] = &["LITERAL+", "SASL-IR", "ID"];

/// Offered after the login, beside `IMAP4rev1` and `APPENDLIMIT=<octets>`.
pub const EXTENSIONS: &[&str] = &[
    "LITERAL+",           // RFC 7888
    "SASL-IR",            // RFC 4959
    "ID",                 // RFC 2971
    "ENABLE",             // RFC 5161
    "IDLE",               // RFC 2177
    "NAMESPACE",          // RFC 2342
    "CHILDREN",           // RFC 3348
    "UNSELECT",           // RFC 3691
    "UIDPLUS",            // RFC 4315
    "ESEARCH",            // RFC 4731
    "LIST-EXTENDED",      // RFC 5258
    "LIST-STATUS",        // RFC 5819
    "SPECIAL-USE",        // RFC 6154
    "CREATE-SPECIAL-USE", // RFC 6154
    "MOVE",               // RFC 6851
    "CONDSTORE",          // RFC 7162
    "STATUS=SIZE",        // RFC 8438
];
