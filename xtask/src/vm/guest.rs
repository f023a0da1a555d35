//! What runs in a guest: zcprof, the end-to-end tests, and their programs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::archive::Archive;
use super::built::{self, Built};
use super::cross::{Cross, Foreign};
use super::initramfs::Initramfs;
use super::kernels::Kernel;
use super::machine::Machine;
use super::plan::{PLAN, Plan, Step};
use super::{disks, modules, programs};
use crate::debian::Package;
use crate::process;

/// What packing takes, beside what every Debian has.
pub(crate) const TOOLS: &[Package] = &[
    Package { name: "binutils", program: "strip", why: "programs without debug information" },
    Package { name: "xz-utils", program: "xz", why: "compressed kernel modules" },
    Package { name: "iproute2", program: "ip", why: "the virtual machines' network" },
];

/// Programs of the host that the tests start, and the guest's set-up.
const PROGRAMS: &[&str] = &["sh", "cat", "dd", "true", "sleep", "ip"];

/// A test program and what of it does not run in a guest.
struct Tests {
    name: &'static str,
    left_out: &'static [&'static str],
}

/// The end-to-end tests that depend on the kernel's version.
const TESTS: &[Tests] = &[
    Tests { name: "paths", left_out: &[] },
    Tests { name: "traps", left_out: &[] },
    Tests { name: "behind", left_out: &[] },
    Tests { name: "faults", left_out: &[] },
    Tests { name: "uring", left_out: &[] },
    Tests { name: "passing", left_out: &[] },
    Tests { name: "peers", left_out: &[] },
    Tests { name: "textbook", left_out: &[] },
    Tests { name: "identity", left_out: &["exec_in_threads_during_readings_counts_nothing_twice"] },
    Tests {
        name: "storm",
        left_out: &[
            "counters_only_grow_and_none_is_missing",
            "after_a_storm_every_operation_is_counted_once",
            "threads_that_live_between_two_snapshots_are_counted",
            "threads_that_come_and_go_are_classified",
        ],
    },
];

/// What of the end-to-end tests does not run in a guest, and why.
pub(crate) fn not_run() -> String {
    let left_out: Vec<_> = TESTS.iter().flat_map(|tests| tests.left_out).copied().collect();
    format!(
        "in the virtual machines: the tests crowd, and of others {}, whose crowds take an emulator too long; tracers, commands, \
         daemon, programs, nginx and validate, which test what does not depend on the kernel; on aarch64 the \
         audit, which knows the routines of x86-64 alone",
        left_out.join(", ")
    )
}

/// Paths that depend on the file system.
const ON_XFS: &[&str] = &[
    "reflink:file:file",
    "copy_file_range:file:file",
    "read:file:user",
    "read:disk:user",
    "write:user:file",
    "write:user:disk",
    "sendfile:file:file",
    "splice:pipe:file",
];

/// Seconds that a step may take.
const PATIENCE: u64 = 180;

/// The built programs.
pub(crate) struct Guest {
    init: PathBuf,
    zcprof: PathBuf,
    helpers: Vec<PathBuf>,
    tests: Vec<(&'static Tests, PathBuf)>,
    /// Where cargo puts what it builds. The guest has it on a disk under the same name: programs are started by the
    /// names that they have here, and their pages are a disk's.
    target: PathBuf,
    /// What stands in for the host's programs where they do not run.
    tools: Option<PathBuf>,
    audit: bool,
    /// How the names of the steps start that are run.
    only: String,
}

/// Builds all that runs in a machine's guest.
pub(crate) fn build(root: &Path, machine: &Machine, archive: &Archive) -> anyhow::Result<Guest> {
    match &machine.cross {
        None => native(root, machine),
        Some(cross) => foreign(root, machine, cross, archive),
    }
}

fn native(root: &Path, machine: &Machine) -> anyhow::Result<Guest> {
    let zcprof = process::build_zcprof(root)?;
    let mut cargo = process::cargo(root);
    let built = built::run(cargo.args(["test", "--locked", "-p", "zc-tests", "--no-run"]))?;
    Guest::of(built, zcprof, process::target_dir(root), machine)
}

fn foreign(root: &Path, machine: &Machine, cross: &Cross, archive: &Archive) -> anyhow::Result<Guest> {
    let names: Vec<_> = TESTS.iter().map(|tests| tests.name).collect();
    let Foreign { mut built, tools, target } = cross.build(root, archive, &names)?;
    let zcprof = built.iter().position(|one| one.name == "zcprof").context("cargo built no zcprof")?;
    let zcprof = built.swap_remove(zcprof).file;
    Ok(Guest { tools: Some(tools), ..Guest::of(built, zcprof, target, machine)? })
}

impl Guest {
    fn of(built: Vec<Built>, zcprof: PathBuf, target: PathBuf, machine: &Machine) -> anyhow::Result<Self> {
        let find = |name: &str, is_test: bool| {
            let found = built.iter().find(|one| one.name == name && one.is_test == is_test);
            found.map(|one| one.file.clone()).with_context(|| format!("cargo built no {name}"))
        };
        let init = find("vm_init", false)?;
        let tests = TESTS.iter().map(|tests| Ok((tests, find(tests.name, true)?))).collect::<anyhow::Result<_>>()?;
        let helpers = built.into_iter().filter(|one| !one.is_test && one.name != "vm_init").map(|one| one.file);
        let (helpers, audit) = (helpers.collect(), machine.audit);
        Ok(Self { init, zcprof, helpers, tests, target, tools: None, audit, only: String::new() })
    }

    /// With only the steps whose names start so.
    pub(crate) fn only(self, start: &str) -> Self {
        Self { only: start.to_owned(), ..self }
    }

    /// Packs it all for a kernel: what it boots with into a file, our programs into a directory for its disk.
    pub(crate) fn pack(&self, kernel: &Kernel, file: &Path, disk: &Path) -> anyhow::Result<()> {
        let mut archive = Initramfs::create(file)?;
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root"] {
            archive.directory(Path::new(directory))?;
        }
        archive.link(Path::new("/bin"), "usr/bin")?;
        archive.link(Path::new("/sbin"), "usr/bin")?;
        let init = disk.join("init");
        self.add(&mut archive, &self.init, &init)?;
        archive.copy(&init, Path::new("/init"))?;
        fs::remove_file(&init)?;
        for program in self.helpers.iter().chain(self.tests.iter().map(|(_, file)| file)).chain([&self.zcprof]) {
            let place = program.strip_prefix(&self.target).context("cargo builds in its own directory")?;
            self.add(&mut archive, program, &disk.join(place))?;
        }
        fs::create_dir_all(disk.join("tmp"))?;
        match &self.tools {
            None => PROGRAMS.iter().try_for_each(|name| programs::add(&mut archive, name))?,
            Some(tools) => programs::add_all_in_one(&mut archive, tools, PROGRAMS)?,
        }
        archive.file(Path::new("/etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
        archive.file(Path::new("/etc/group"), b"root:x:0:\nnogroup:x:65534:\n")?;
        let mut plan = self.plan();
        for module in modules::read(&kernel.modules(), modules::WANTED)? {
            let path = format!("/modules/{}.ko", module.name);
            archive.file(Path::new(&path), &module.content)?;
            plan.modules.push(path);
        }
        archive.file(Path::new(PLAN), &serde_json::to_vec(&plan)?)?;
        archive.finish().map(|_| ())
    }

    /// Adds a program of ours, which lies on the disk.
    fn add<W: Write>(&self, archive: &mut Initramfs<W>, program: &Path, place: &Path) -> anyhow::Result<()> {
        if self.tools.is_some() { programs::place(program, place) } else { programs::strip(archive, program, place) }
    }

    /// The names of all steps.
    pub(crate) fn step_names(&self) -> Vec<String> {
        self.plan().steps.into_iter().map(|step| step.name).collect()
    }

    fn plan(&self) -> Plan {
        let steps = self.zcprof_steps().into_iter().chain(self.test_steps());
        let words = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect();
        Plan {
            modules: Vec::new(),
            mounts: disks::mounts(&self.target),
            setup: vec![words("ip link set lo up")],
            steps: steps.filter(|step| step.name.starts_with(&self.only)).collect(),
        }
    }

    /// What the judge compares with what is expected.
    fn zcprof_steps(&self) -> Vec<Step> {
        let zcprof = self.zcprof.display().to_string();
        let scratch = self.target.join("tmp").display().to_string();
        let step = |name: &str, arguments: &[&str]| Step {
            name: name.to_owned(),
            command: std::iter::once(zcprof.as_str()).chain(arguments.iter().copied()).map(ToOwned::to_owned).collect(),
            environment: Vec::new(),
            seconds: PATIENCE,
        };
        // The audit takes its time: without it there is some for the variants.
        let how = if self.audit { "--audit" } else { "--variants" };
        let validate = ["validate", "--json", "--bytes", "1MiB", how, "--directory"];
        let on_xfs: Vec<_> = ON_XFS.iter().flat_map(|path| ["--path", path]).collect();
        let mut steps = vec![
            step("probes", &["probes", "--json"]),
            step("paths", &["paths", "--json"]),
            step("validate ext4", &[&validate[..], &[&scratch]].concat()),
            step("validate xfs", &[&validate[..], &["/disk"], &on_xfs].concat()),
        ];
        // Two emulated cards on one wire, without scatter-gather and with it (`qemu.rs`), in the order of their modules.
        for devices in ["eth0,eth1", "eth1,eth0"] {
            let textbook = ["validate", "--textbook", "--json", "--bytes", "1MiB", "--devices", devices, "--directory"];
            steps.push(step(&format!("textbook {devices}"), &[&textbook[..], &[&scratch]].concat()));
        }
        if !self.audit {
            steps.push(step("audit", &["validate", "--audit", "--path", "read:pipe:user"]));
        }
        steps
    }

    fn test_steps(&self) -> impl Iterator<Item = Step> {
        let zcprof = self.zcprof.display().to_string();
        self.tests.iter().map(move |(tests, file)| Step {
            name: format!("test {}", tests.name),
            command: std::iter::once(file.display().to_string())
                .chain(tests.left_out.iter().flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]))
                .collect(),
            environment: vec![("ZCPROF_BINARY".to_owned(), zcprof.clone())],
            seconds: PATIENCE,
        })
    }
}
