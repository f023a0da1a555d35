//! `zcprof probes`: what attaches here, found by attaching it for a moment.

use clap::Args;

use super::output::{self, Failure};
use super::render;
use crate::export::catalogue::ProbeList;
use crate::kernel::{Ledgers, LoadError, Options, ProbeStatus, Tracer, kernel_release};

/// Lists the probes: what is attached here, and why what is not is not.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit status: 0, even where nothing can be attached: the list says why.")]
pub struct ProbesArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// What tracing needs; it is all attached, or nothing is.
const NEEDED: [(&str, &str); 5] = [
    ("sched_process_exit", "the fold of exiting threads' ledgers"),
    ("sched_process_fork", "descendants"),
    ("sched_process_exec", "executed files"),
    ("sys_exit", "every path of a system call, mode_switches.system_calls"),
    ("iter_task", "reading the threads' ledgers"),
];

pub(super) fn run(arguments: &ProbesArgs) -> Result<u8, Failure> {
    let catalogue = crate::model::Catalogue::default();
    let probes = match Tracer::load(&Options {
        rows: catalogue.rows(),
        exclude_self: true,
        ledgers: Ledgers::Slots,
        without: &[],
    }) {
        Ok(tracer) => tracer.probes().to_vec(),
        Err(error) => unattached(&error),
    };
    let list = ProbeList { kernel: kernel_release(), probes };
    output::print(&if arguments.json { output::json(&list)? } else { text(&list) })?;
    Ok(0)
}

/// The list where tracing can't start.
fn unattached(error: &LoadError) -> Vec<ProbeStatus> {
    let of = |&(name, provides): &(&'static str, &'static str)| {
        let reason = match error {
            LoadError::Refused { probe, reason } if *probe == name => format!("this kernel refused it: {reason}"),
            LoadError::Refused { probe, .. } => format!("nothing is attached because this kernel refused {probe}"),
            other => other.to_string(),
        };
        ProbeStatus { name, attached: false, reason: Some(reason), minimum_kernel: "6.1", provides }
    };
    NEEDED.iter().map(of).collect()
}

fn text(list: &ProbeList) -> String {
    let rows = list.probes.iter().map(|probe| {
        vec![
            probe.name.to_owned(),
            if probe.attached { "yes" } else { "no" }.to_owned(),
            probe.minimum_kernel.to_owned(),
            probe.provides.to_owned(),
            render::sanitize(probe.reason.as_deref().unwrap_or("")),
        ]
    });
    let table = render::table(&["PROBE", "ATTACHED", "NEEDS KERNEL", "PROVIDES", "REASON"], rows, 0..0);
    format!("Kernel {}\n\n{table}", list.kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_attaches_every_probe_says_why() {
        let all = unattached(&LoadError::NotPermitted);
        assert_eq!(all.len(), NEEDED.len());
        assert!(all.iter().all(|probe| !probe.attached && probe.reason.as_deref().unwrap().contains("CAP_BPF")));
    }

    #[test]
    fn a_refused_probe_is_told_from_those_it_took_along() {
        let all = unattached(&LoadError::Refused { probe: "sys_exit", reason: "no".to_owned() });
        let reason = |name| all.iter().find(|probe| probe.name == name).unwrap().reason.clone().unwrap();
        assert_eq!(reason("sys_exit"), "this kernel refused it: no");
        assert!(reason("iter_task").contains("refused sys_exit"));
        let list = ProbeList { kernel: "6.1.0".to_owned(), probes: all };
        assert!(text(&list).starts_with("Kernel 6.1.0\n"));
    }
}
