//! What a script may use up.

/// Bounds of one script and of one run of it. The defaults are above the least that the RFCs ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a script.
    pub script: usize,
    /// Blocks in blocks, and tests in tests (RFC 5228 section 2.10.7 asks for 15).
    pub nesting: usize,
    /// Commands, tests and strings of a script, taken together.
    pub items: usize,
    /// Work of one run: octets that are looked at, and [`Limits::STEP`] for each command, test and key.
    pub work: u64,
    /// Variables of a script (RFC 5229 section 6 asks for 128).
    pub variables: usize,
    /// Octets of a variable; longer values are cut (RFC 5229 section 6 asks for 4000 characters, which UTF-8
    /// makes up to 16,000 octets).
    pub variable: usize,
    /// Octets of a string whose variables have been put in.
    pub string: usize,
    /// Flags of one set; those beyond are left out.
    pub flags: usize,
    /// Actions of one run, redirects and notifications among them.
    pub actions: usize,
    /// Redirects of one run.
    pub redirects: usize,
    /// Addresses that one run may notify.
    pub notifications: usize,
    /// Different ids that one run may ask `duplicate` for.
    pub duplicates: usize,
    /// Most seconds that `duplicate` remembers.
    pub duplicate_seconds: u64,
    /// Fewest seconds between two answers of `vacation :seconds`.
    pub vacation_min_seconds: u64,
    /// Most seconds between two answers of `vacation` (RFC 6131 asks for a day, RFC 5230 for more than 7 days).
    pub vacation_max_seconds: u64,
}

impl Limits {
    /// What a command, a test or a key costs of [`Limits::work`], whatever it looks at.
    pub const STEP: u64 = 64;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            script: 128 * 1024,
            nesting: 32,
            items: 20_000,
            work: 1024 * 1024 * 1024,
            variables: 256,
            variable: 16_000,
            string: 128 * 1024,
            flags: 64,
            actions: 32,
            redirects: 4,
            notifications: 4,
            duplicates: 16,
            duplicate_seconds: 90 * 86_400,
            vacation_min_seconds: 0,
            vacation_max_seconds: 180 * 86_400,
        }
    }
}
