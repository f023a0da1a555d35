//! The rules of deny.toml that we enforce, and what they say of a package.

use anyhow::{Context as _, bail};
use cargo_metadata::{Dependency, Package};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// The part of cargo-deny's format that we read; it reads the rest.
#[derive(Deserialize)]
struct File {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    wildcards: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

/// Licences allowed; sources other than the default registry and versions without bounds are always refused.
pub(super) struct Policy {
    allow: Vec<Licensee>,
}

impl Policy {
    /// Reads deny.toml. It must refuse what we refuse, so that cargo-deny and we agree.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        for (key, value) in [
            ("bans.wildcards", &file.bans.wildcards),
            ("sources.unknown-registry", &file.sources.unknown_registry),
            ("sources.unknown-git", &file.sources.unknown_git),
        ] {
            if value != "deny" {
                bail!("{key} is {value:?}, and this project's policy is \"deny\"");
            }
        }
        let parse = |name: &String| Licensee::parse(name).map_err(|error| anyhow::anyhow!("licenses.allow: {error}"));
        Ok(Self { allow: file.licenses.allow.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// What is wrong with a package, if anything.
    pub(super) fn judge(&self, package: &Package) -> Vec<String> {
        let name = format!("{} {}", package.name, package.version);
        let mut wrong = Vec::new();
        if let Some(source) = package.source.as_ref().filter(|source| !source.is_crates_io()) {
            wrong.push(format!("{name} comes from {source}, not from the default registry"));
        }
        match self.licence(package.license.as_deref()) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{name} is licensed {}", package.license.as_deref().unwrap_or_default())),
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
        // Those of others are bounded by our lock file.
        if package.source.is_none() {
            wrong.extend(
                package
                    .dependencies
                    .iter()
                    .filter(|one| is_wildcard(one))
                    .map(|one| format!("{name} depends on {} in any version", one.name)),
            );
        }
        wrong
    }

    /// Whether an expression can be met by licences that are allowed.
    fn licence(&self, expression: Option<&str>) -> anyhow::Result<bool> {
        let expression = expression.context("names no licence")?;
        let parsed = Expression::parse_mode(expression, ParseMode::LAX)
            .map_err(|error| anyhow::anyhow!("licence {expression:?}: {}", error.reason))?;
        Ok(parsed.evaluate(|required| self.allow.iter().any(|one| one.satisfies(required))))
    }
}

fn is_wildcard(dependency: &Dependency) -> bool {
    dependency.path.is_none() && dependency.req.comparators.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"BSD-3-Clause\"]\n[bans]\nwildcards = \"deny\"\n\
                        [sources]\nunknown-registry = \"deny\"\nunknown-git = \"deny\"\n";

    fn package(source: &str, license: &str, requirement: &str) -> Package {
        let dependency = format!(
            r#"{{"name":"d","source":null,"req":"{requirement}","kind":null,"rename":null,"optional":false,
                "uses_default_features":true,"features":[],"target":null}}"#
        );
        let json = format!(
            r#"{{"name":"p","version":"1.0.0","id":"p","license":{license},"source":{source},"dependencies":[{dependency}],
                "targets":[],"features":{{}},"manifest_path":"/p/Cargo.toml","edition":"2024"}}"#
        );
        parsed(&json)
    }

    fn parsed(json: &str) -> Package {
        cargo_metadata::MetadataCommand::parse(format!(
            r#"{{"packages":[{json}],"workspace_members":[],"resolve":null,"target_directory":"/t","version":1,
                "workspace_root":"/"}}"#
        ))
        .unwrap()
        .packages
        .remove(0)
    }

    #[test]
    fn expressions() {
        let policy = Policy::parse(TEXT).unwrap();
        let allowed = |expression| policy.licence(Some(expression)).unwrap();
        for good in
            ["MIT", "MIT OR GPL-3.0-only", "MIT/Apache-2.0", "MIT AND BSD-3-Clause", "(GPL-2.0-only OR MIT) AND MIT"]
        {
            assert!(allowed(good), "{good}");
        }
        for bad in ["GPL-2.0-only", "MIT AND LGPL-2.1-or-later", "Apache-2.0 WITH LLVM-exception", "MPL-2.0"] {
            assert!(!allowed(bad), "{bad}");
        }
        assert!(policy.licence(None).is_err());
        assert!(policy.licence(Some("My own licence")).is_err());
    }

    #[test]
    fn packages() {
        let policy = Policy::parse(TEXT).unwrap();
        let judge = |source, license, requirement| policy.judge(&package(source, license, requirement)).join("; ");
        assert_eq!(judge("null", "\"MIT\"", "^1"), "");
        assert_eq!(judge("null", "\"MIT\"", "*"), "p 1.0.0 depends on d in any version");
        assert_eq!(judge("null", "\"MPL-2.0\"", "^1"), "p 1.0.0 is licensed MPL-2.0");
        assert_eq!(judge("null", "null", "^1"), "p 1.0.0: names no licence");
        assert!(judge("\"git+ssh://example/p#1\"", "\"MIT\"", "*").starts_with("p 1.0.0 comes from git+ssh"));
    }

    #[test]
    fn a_laxer_policy_is_not_read() {
        let lax = TEXT.replace("unknown-git = \"deny\"", "unknown-git = \"allow\"");
        assert!(Policy::parse(&lax).is_err());
        assert!(Policy::parse(&TEXT.replace("MIT", "not a licence")).is_err());
    }
}
