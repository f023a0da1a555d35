//! What the host tells the guest, and what the guest tells the host: both ends are made from these types.

use serde::{Deserialize, Serialize};

/// Where the guest finds its plan.
pub const PLAN: &str = "/plan.json";
/// The virtio port that the guest reports over, a message a line.
pub const PORT: &str = "zcprof.results";

/// All that the guest does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Files of kernel modules, each behind those that it depends on.
    pub modules: Vec<String>,
    /// Disks.
    pub mounts: Vec<Mount>,
    /// Commands that make the machine ready; each must succeed.
    pub setup: Vec<Vec<String>>,
    /// What is run, one after the other.
    pub steps: Vec<Step>,
}

/// A disk and where it is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Its serial number: which device it becomes differs from boot to boot.
    pub serial: String,
    /// Its file system.
    pub kind: String,
    /// Where it goes.
    pub directory: String,
}

/// A command of which the host wants to know everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// What the host calls it.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables beside the usual ones.
    pub environment: Vec<(String, String)>,
    /// Killed after so many seconds.
    pub seconds: u64,
}

/// A line from the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The machine is ready, and its kernel's release.
    Ready(String),
    /// A step has ended.
    Done(Outcome),
    /// The guest can't go on.
    Failed(String),
    /// All steps have ended; the guest turns itself off.
    End,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The step's name.
    pub name: String,
    /// Its exit status, 128 + n for a signal; null if it was killed for taking too long.
    pub status: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
    /// How long it took.
    pub seconds: f64,
}
