//! Which processes: the selector flags that `profile` and `verify` share.

use clap::Args;

use crate::ledger::Selector;

/// The ids of the flags below, for the groups that say how many of them there must be.
pub(super) const FLAGS: [&str; 6] = ["pid", "comm", "exe", "unit", "container", "cgroup"];

/// Exactly one of these; the descendants of what it matches are taken in.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct SelectorArgs {
    /// The process with this pid.
    #[arg(long, value_name = "N", help_heading = "Which processes (descendants included)")]
    pub pid: Option<u32>,
    /// Processes with this command name.
    #[arg(long, value_name = "C", help_heading = "Which processes (descendants included)")]
    pub comm: Option<String>,
    /// Processes that run this file: its path, or its last component.
    #[arg(long, value_name = "P", help_heading = "Which processes (descendants included)")]
    pub exe: Option<String>,
    /// Processes of this systemd unit; `nginx` means `nginx.service`.
    #[arg(long, value_name = "U", help_heading = "Which processes (descendants included)")]
    pub unit: Option<String>,
    /// Processes of the container whose id starts so.
    #[arg(long, value_name = "ID", help_heading = "Which processes (descendants included)")]
    pub container: Option<String>,
    /// Processes in this cgroup or below, as /proc/PID/cgroup names it.
    #[arg(long, value_name = "P", help_heading = "Which processes (descendants included)")]
    pub cgroup: Option<String>,
}

impl SelectorArgs {
    /// The one given; none if none is.
    #[must_use]
    pub fn selector(&self) -> Option<Selector> {
        let Self { pid, comm, exe, unit, container, cgroup } = self.clone();
        pid.map(Selector::Pid)
            .or_else(|| comm.map(Selector::Comm))
            .or_else(|| exe.map(Selector::Exe))
            .or_else(|| unit.map(Selector::Unit))
            .or_else(|| container.map(Selector::Container))
            .or_else(|| cgroup.map(Selector::Cgroup))
    }

    /// What was asked for, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.selector() {
            Some(Selector::Pid(pid)) => format!("--pid {pid}"),
            Some(Selector::Comm(comm)) => format!("--comm {comm}"),
            Some(Selector::Exe(exe)) => format!("--exe {exe}"),
            Some(Selector::Unit(unit)) => format!("--unit {unit}"),
            Some(Selector::Container(id)) => format!("--container {id}"),
            Some(Selector::Cgroup(path)) => format!("--cgroup {path}"),
            Some(Selector::Key(_)) | None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_given_is_the_selector() {
        let none = SelectorArgs { pid: None, comm: None, exe: None, unit: None, container: None, cgroup: None };
        assert_eq!(none.selector(), None);
        let pid = SelectorArgs { pid: Some(7), ..none.clone() };
        assert_eq!(pid.selector(), Some(Selector::Pid(7)));
        let unit = SelectorArgs { unit: Some("nginx".to_owned()), ..none };
        assert_eq!(unit.selector(), Some(Selector::Unit("nginx".to_owned())));
        assert_eq!(unit.describe(), "--unit nginx");
    }
}
