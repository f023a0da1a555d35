//! What a kernel in trouble says on its console.

/// What each kind of trouble looks like (kernel/panic.c, kernel/rcu/tree_stall.h, kernel/watchdog.c,
/// kernel/hung_task.c, arch/*/kernel/traps.c; v6.1 to v6.12).
const TROUBLE: [(&str, &str); 11] = [
    ("Kernel panic", "panic"),
    ("detected stalls on CPUs/tasks", "RCU stall"),
    ("self-detected stall on CPU", "RCU stall"),
    ("rcu_preempt kthread starved", "RCU stall"),
    ("soft lockup", "soft lock-up"),
    ("hard LOCKUP", "hard lock-up"),
    ("blocked for more than", "hung task"),
    ("Oops:", "oops"),
    ("BUG: ", "bug"),
    ("WARNING: CPU:", "warning"),
    ("Unable to handle kernel", "fault"),
];

/// The first trouble in a console's text: its kind and line.
pub(crate) fn trouble(console: &str) -> Option<String> {
    console.lines().find_map(|line| {
        let (_, kind) = TROUBLE.iter().find(|(sign, _)| line.contains(sign))?;
        Some(format!("{kind}: {}", line.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_recognised() {
        assert_eq!(trouble("[    0.000000] Linux version 6.1.0\nvm_init: no port\n"), None);
        for (line, kind) in [
            ("[   12.1] Kernel panic - not syncing: Attempted to kill init!", "panic"),
            ("[   33.4] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "RCU stall"),
            ("[   33.4] rcu: INFO: rcu_preempt self-detected stall on CPU", "RCU stall"),
            ("[   48.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [init:1]", "soft lock-up"),
            ("[   48.0] NMI watchdog: Watchdog detected hard LOCKUP on cpu 0", "hard lock-up"),
            ("[   48.0] BUG: kernel NULL pointer dereference, address: 0000000000000000", "bug"),
        ] {
            let found = trouble(&format!("[ 1.0] fine\n{line}\n[ 2.0] more\n")).unwrap_or_default();
            assert!(found.starts_with(kind), "{line}: {found}");
        }
    }
}
