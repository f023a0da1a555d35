//! `zcprof generate`: manual pages and completions, from the definitions that parse the arguments. For packagers.

use std::path::PathBuf;

use clap::{Args, Command, Subcommand};
use clap_complete::Shell;

use super::output::{self, Failure};

/// Makes manual pages and shell completions.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// What to make.
    #[command(subcommand)]
    pub what: What,
}

/// What can be made.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Manual pages.
    Man {
        /// One page per command into this directory, rather than all of them to standard output.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Completions, to standard output.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

pub(super) fn run(arguments: &GenerateArgs, command: &Command) -> Result<u8, Failure> {
    match &arguments.what {
        What::Man { dir: Some(dir) } => {
            let failed = |error| Failure::cannot(format_args!("write manual pages to {}", dir.display()), error);
            std::fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(command.clone(), dir).map_err(failed)?;
        }
        What::Man { dir: None } => output::print(&pages(command)?)?,
        What::Completions { shell } => output::print(&completions(command, *shell))?,
    }
    Ok(0)
}

/// All manual pages one after the other.
fn pages(command: &Command) -> Result<String, Failure> {
    let mut command = command.clone();
    // Propagates names: `zcprof-record` rather than `record`.
    command.build();
    let mut text = Vec::new();
    for page in std::iter::once(&command).chain(command.get_subcommands().filter(|one| !one.is_hide_set())) {
        let rendered = clap_mangen::Man::new(page.clone()).render(&mut text);
        rendered.map_err(|error| Failure::cannot("make the manual page", error))?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn completions(command: &Command, shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), "zcprof", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_manual_has_every_command_that_is_not_hidden() {
        let text = pages(&Cli::command()).unwrap();
        for name in ["zcprof\\-record", "zcprof\\-verify", "zcprof\\-daemon"] {
            assert!(text.contains(name), "{name}");
        }
        assert!(!text.contains("zcprof\\-generate"));
    }

    #[test]
    fn completions_know_the_flags() {
        let text = completions(&Cli::command(), Shell::Bash);
        assert!(text.contains("--mechanism") && text.contains("--web.listen-address"));
    }
}
