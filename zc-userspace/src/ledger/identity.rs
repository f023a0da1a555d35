//! Who a process is: pid and start time, and what its cgroup path says of unit and container.

/// A process for good: pids are used again, a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// Process id.
    pub tgid: u32,
    /// Start in ns since boot.
    pub start: u64,
}

/// What a process's cgroups tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// The path: the unified hierarchy's, or systemd's own where that one is unused (hybrid hosts).
    pub path: String,
    /// The systemd unit (service, scope …) that the path lies in.
    pub unit: Option<String>,
    /// The container's id.
    pub container: Option<String>,
}

/// Unit types that processes run in (systemd.unit(5)); slices only group units.
const UNIT_SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

impl Cgroup {
    /// Reads the text of `/proc/PID/cgroup`: `id:controllers:path` lines (cgroups(7)).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut paths = text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            Some((parts.next()?, parts.next()?, parts.next()?))
        });
        let mut unified = "";
        let mut systemd = "";
        let mut any = "";
        for (id, controllers, path) in &mut paths {
            if id == "0" && controllers.is_empty() {
                unified = path;
            } else if controllers == "name=systemd" {
                systemd = path;
            } else if any.len() < path.len() {
                any = path;
            }
        }
        let chosen = [unified, systemd, any].into_iter().find(|path| path.len() > 1).unwrap_or(unified);
        Self::from_path(if chosen.is_empty() { "/" } else { chosen })
    }

    /// Reads one cgroup path.
    #[must_use]
    pub fn from_path(path: &str) -> Self {
        let mut found = Self { path: path.to_owned(), ..Self::default() };
        for part in path.split('/') {
            if let Some(id) = container_id(part) {
                found.container = Some(id.to_owned());
            }
            if UNIT_SUFFIXES.iter().any(|suffix| part.len() > suffix.len() && part.ends_with(suffix)) {
                found.unit = Some(part.to_owned());
            }
        }
        found
    }
}

/// The id in `docker-<id>.scope`, `cri-containerd-<id>.scope`, `libpod-<id>`, or `<id>` itself: 64 hexadecimal digits.
fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next().unwrap_or(part);
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn unified_unit() {
        let found = Cgroup::parse("0::/system.slice/nginx.service\n");
        assert_eq!(found.path, "/system.slice/nginx.service");
        assert_eq!(found.unit.as_deref(), Some("nginx.service"));
        assert_eq!(found.container, None);
    }

    #[test]
    fn hybrid_host_takes_systemds_hierarchy() {
        let text = "12:pids:/user.slice\n1:name=systemd:/system.slice/ssh.service\n0::/\n";
        assert_eq!(Cgroup::parse(text).unit.as_deref(), Some("ssh.service"));
    }

    #[test]
    fn containers() {
        let docker = Cgroup::from_path(&format!("/system.slice/docker-{ID}.scope"));
        assert_eq!(docker.container.as_deref(), Some(ID));
        let kubernetes = format!("/kubepods.slice/kubepods-burstable.slice/cri-containerd-{ID}.scope");
        assert_eq!(Cgroup::from_path(&kubernetes).container.as_deref(), Some(ID));
        // As a process in a control group namespace of its own sees those of others (cgroup_namespaces(7)).
        let seen = Cgroup::parse(&format!("0::/../../kubepods-burstable.slice/cri-containerd-{ID}.scope"));
        assert_eq!(seen.container.as_deref(), Some(ID));
        assert_eq!(Cgroup::from_path(&format!("/docker/{ID}")).container.as_deref(), Some(ID));
        assert_eq!(Cgroup::from_path("/docker/short").container, None);
    }

    #[test]
    fn nothing() {
        assert_eq!(Cgroup::parse("").path, "/");
        assert_eq!(Cgroup::parse("nonsense\n::\n").path, "/");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = Cgroup::parse(&text);
        }
    }
}
