//! The Debian package of the zcprof under test: what it says, what Debian's lintian says of it, and that what it
//! installs runs, is kept through an upgrade, and is gone after a purge.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use common::daemon::Daemon;
use common::{Ended, Scratch, run, without, zcprof};

/// What lintian says of whoever builds a package, and not of the package.
const OF_THE_PACKAGER: &str = "bogus-mail-host,bogus-mail-host-in-debian-changelog,root-in-contact";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

#[test]
fn it_is_what_debian_expects_and_what_it_installs_runs_and_goes_again() -> Result<()> {
    let scratch = Scratch::new()?;
    let package = xtask::deb::run(root(), zcprof(), scratch.path())?;
    says_what_it_is_and_holds_what_it_should(&package)?;
    std::thread::scope(|scope| {
        let checks = [pleases_lintian, runs_where_it_is_unpacked, is_installed_upgraded_removed_and_purged];
        let package = &package;
        let checks = checks.map(|check| scope.spawn(move || check(package)));
        checks.into_iter().try_for_each(|check| check.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Runs a command that has to succeed.
fn done(command: &mut Command) -> Result<Ended> {
    let ended = run(command)?;
    assert_eq!(ended.status, 0, "{command:?}: {ended:?}");
    Ok(ended)
}

/// Mode and owner of each path in it.
fn contents(package: &Path) -> Result<BTreeMap<String, String>> {
    let listed = done(Command::new("dpkg-deb").arg("--contents").arg(package))?.stdout;
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (mode, owner, path) = (words.next()?, words.next()?, words.nth(3)?);
        Some((path.to_owned(), format!("{mode} {owner}")))
    };
    listed.lines().map(|line| entry(line).with_context(|| line.to_owned())).collect()
}

fn says_what_it_is_and_holds_what_it_should(package: &Path) -> Result<()> {
    let field = |name: &str| -> Result<String> {
        Ok(done(Command::new("dpkg-deb").arg("--field").arg(package).arg(name))?.stdout.trim().to_owned())
    };
    assert_eq!((field("Package")?.as_str(), field("Version")?.as_str()), ("zcprof", env!("CARGO_PKG_VERSION")));
    assert_eq!(field("Architecture")?, done(Command::new("dpkg").arg("--print-architecture"))?.stdout.trim());
    let contents = contents(package)?;
    for path in [
        "./usr/lib/systemd/system/zcprof.service",
        "./usr/lib/systemd/system/zcprof.socket",
        "./etc/zcprof/zcprof.toml",
        // The units' Documentation=.
        "./usr/share/man/man1/zcprof-daemon.1.gz",
        "./usr/share/man/man1/zcprof.1.gz",
        "./usr/share/bash-completion/completions/zcprof",
        "./usr/share/zsh/vendor-completions/_zcprof",
        "./usr/share/fish/vendor_completions.d/zcprof.fish",
        "./usr/share/doc/zcprof/copyright",
        "./usr/share/doc/zcprof/third-party.txt.gz",
        "./usr/share/doc/zcprof/examples/zcprof.rules.yml",
    ] {
        assert_eq!(contents.get(path).map(String::as_str), Some("-rw-r--r-- root/root"), "{path}: {contents:?}");
    }
    for (path, mode) in &contents {
        let expected = match path {
            _ if path.ends_with('/') => "drwxr-xr-x root/root",
            _ if path == "./usr/bin/zcprof" => "-rwxr-xr-x root/root",
            _ => "-rw-r--r-- root/root",
        };
        assert_eq!(mode, expected, "{path}");
    }
    Ok(())
}

fn pleases_lintian(package: &Path) -> Result<()> {
    if without("lintian") {
        return Ok(());
    }
    let root = if nix::unistd::geteuid().is_root() { &["--allow-root"][..] } else { &[] };
    let words = ["--fail-on", "error,warning", "--suppress-tags", OF_THE_PACKAGER];
    let judged = done(Command::new("lintian").args(root).args(words).arg(package))?;
    assert_eq!(judged.stdout, "", "{judged:?}");
    Ok(())
}

fn runs_where_it_is_unpacked(package: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    done(Command::new("dpkg-deb").arg("-x").arg(package).arg(scratch.path()))?;
    let binary = scratch.at("usr/bin/zcprof");
    let version = done(Command::new(&binary).arg("--version"))?.stdout;
    assert_eq!(version.trim(), format!("zcprof {}", env!("CARGO_PKG_VERSION")));
    let config = scratch.at("etc/zcprof/zcprof.toml");
    let words = ["daemon", "--config.file", &config, "--web.listen-address", "127.0.0.1:0"];
    let daemon = Daemon::launch_by(Command::new(&binary).args(words))?;
    assert_eq!(daemon.get("/-/ready")?.status, 200);
    done(Command::new("bash").args(["-n", &scratch.at("usr/share/bash-completion/completions/zcprof")]))?;
    let manual = done(Command::new("zcat").arg(scratch.at("usr/share/man/man1/zcprof-verify.1.gz")))?.stdout;
    assert!(manual.contains(".TH zcprof-verify 1") && manual.contains("mechanism"), "{manual}");
    let notices = done(Command::new("zcat").arg(scratch.at("usr/share/doc/zcprof/third-party.txt.gz")))?.stdout;
    for part in ["\naya 0.14.0: MIT OR Apache-2.0\n", "\nring ", "Permission is hereby granted"] {
        assert!(notices.contains(part), "{part:?}");
    }
    assert!(!notices.contains("\nproptest "), "only what the binary contains");
    Ok(())
}

/// dpkg for another root; scripts are told so, and leave this machine alone.
fn dpkg(root: &Scratch) -> Command {
    let mut dpkg = Command::new("dpkg");
    let option = |name: &str| format!("--force-{name}");
    dpkg.arg(format!("--root={}", root.path().display()));
    dpkg.args(["depends", "not-root", "script-chrootless", "confold"].map(option));
    dpkg.args(["--log", "/dev/null"]);
    dpkg
}

fn is_installed_upgraded_removed_and_purged(package: &Path) -> Result<()> {
    let root = Scratch::new()?;
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        fs::create_dir_all(root.at(folder))?;
    }
    root.text("var/lib/dpkg/status", "")?;
    done(dpkg(&root).arg("--install").arg(package))?;
    done(Command::new(root.at("usr/bin/zcprof")).arg("--version"))?;
    root.text("etc/zcprof/zcprof.toml", "max-groups = 7\n")?;
    done(dpkg(&root).arg("--install").arg(package))?;
    assert_eq!(root.read("etc/zcprof/zcprof.toml")?, "max-groups = 7\n", "the administrator's");
    let verified = done(dpkg(&root).args(["--verify", "zcprof"]))?.stdout;
    assert!(verified.lines().all(|line| line.ends_with("c /etc/zcprof/zcprof.toml")), "{verified}");
    done(dpkg(&root).args(["--remove", "zcprof"]))?;
    assert!(!fs::exists(root.at("usr"))? && fs::exists(root.at("etc/zcprof/zcprof.toml"))?);
    done(dpkg(&root).args(["--purge", "zcprof"]))?;
    assert!(!fs::exists(root.at("etc"))?);
    Ok(())
}

#[test]
fn the_configuration_shows_the_defaults() -> Result<()> {
    use zcprof::config::{DaemonConfig, DaemonOptions};
    let shipped = fs::read_to_string(root().join("packaging/zcprof.toml"))?;
    let scratch = Scratch::new()?;
    let load = |text: &str| -> Result<DaemonConfig> {
        let config_file = Some(scratch.text("zcprof.toml", text)?.into());
        Ok(DaemonConfig::load(DaemonOptions { config_file, ..DaemonOptions::default() })?)
    };
    let defaults = DaemonConfig::load(DaemonOptions::default())?;
    assert_eq!(load(&shipped)?, defaults);
    // All but the file that is not there.
    let lines = shipped.lines().filter(|line| !line.starts_with("# ") && !line.starts_with("#config.file"));
    let all: String = lines.map(|line| line.strip_prefix('#').unwrap_or(line).to_owned() + "\n").collect();
    let mut loaded = load(&all)?;
    assert_eq!(loaded.rules.len(), 1, "{all}");
    loaded.rules.clear();
    assert_eq!(loaded, defaults);
    Ok(())
}
