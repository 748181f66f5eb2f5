//! What to do next, from what the controller says of the system: pure.

use serde_json::Value;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The power is off.
    Done,
    /// Ask the system to go off: POST to this path.
    Tell(String),
    /// It was told; this is the state it is in.
    Wait(String),
}

/// Reads a `ComputerSystem`.
///
/// # Errors
/// When it is not one, or does not name the action.
pub fn next(system: &str, told: bool) -> Result<Step, String> {
    let system: Value = serde_json::from_str(system).map_err(|error| error.to_string())?;
    let state = system["PowerState"].as_str().ok_or("it has no PowerState")?;
    if state == "Off" {
        return Ok(Step::Done);
    }
    if told {
        return Ok(Step::Wait(state.to_owned()));
    }
    let target = system["Actions"]["#ComputerSystem.Reset"]["target"].as_str();
    let target =
        target.filter(|t| t.starts_with('/') && !t.contains(|c: char| c.is_whitespace() || c.is_control()));
    target.map(|t| Step::Tell(t.to_owned())).ok_or_else(|| "it names no reset action".into())
}
