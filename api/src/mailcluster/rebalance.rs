//! When the operator spreads primaries over the nodes by itself.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A time of day, as 24 hours count it.
const TIME_OF_DAY: &str = "self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')";
/// A name as in the tz database; whether there is such a zone, the operator says.
const ZONE_NAME: &str = "self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')";

/// The operator hands stores with mirrors over by itself, as `kubectl mailcluster rebalance` does.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebalance {
    /// When hand-overs may begin.
    pub window: RebalanceWindow,
}

/// A span of time that comes again each day or each week. One hand-over begins after another in it, while every store
/// serves and every copy has everything; what has begun when it ends goes on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebalanceWindow {
    /// The days of the week on which it begins. Left out: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub days: Vec<Day>,
    /// The time of day at which it begins, as HH:MM of 24 hours and in quotes, for example "02:00". Where clocks are put
    /// forward past it, the window begins as much later.
    #[schemars(length(max = 5))]
    #[x_kube(validation = (TIME_OF_DAY, "window.start must be a time of day from 00:00 to 23:59, like 02:00"))]
    pub start: String,
    /// Minutes that it lasts, past midnight if need be.
    #[schemars(range(min = 1, max = 1440))]
    pub duration_minutes: u32,
    /// The time zone of days and start, by its name in the tz database, for example Europe/Berlin. Left out: UTC. One
    /// that the operator does not know opens no window (event `WindowNotUnderstood`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = (ZONE_NAME, "window.timeZone must be a name from the tz database, like Europe/Berlin"))]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}
