//! The web configuration (`--web.config.file`): TLS, who may ask, and more headers, in the format of Prometheus's
//! exporters. Re-read when one of its files changes; what can't be used then leaves everything as it was.

mod auth;
mod file;
mod tls;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

pub use auth::check;

use self::auth::Users;
use self::file::File;

/// Why a web configuration can't be used. Each message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A file can't be read.
    #[error("can't read {path}, which the web configuration needs: {error}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It says something that it may not.
    #[error("the web configuration {path}: {reason}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What, and what would be right.
        reason: String,
    },
}

/// A web configuration and what it is made of.
pub struct Web {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    current: Arc<Current>,
    /// The files that it was read from, as they were then.
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// What the configuration says now.
pub struct Current {
    /// How to speak TLS; plain HTTP if none.
    pub tls: Option<TlsAcceptor>,
    /// Who may ask; everybody if empty.
    users: Users,
    /// What every answer has.
    headers: HeaderMap,
}

/// What changes when a file does: its modification in ns, length, device and inode.
type Stamp = (i64, i64, u64, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let of = std::fs::metadata(path).ok()?;
    Some((of.mtime(), of.mtime_nsec(), of.size(), of.dev(), of.ino()))
}

impl Web {
    /// Reads a web configuration and all that it names.
    ///
    /// # Errors
    /// If a file can't be read, or says something that it may not.
    pub fn load(path: &Path) -> Result<Self, WebError> {
        Ok(Self { path: path.to_owned(), state: Mutex::new(read(path)?) })
    }

    /// The folders of the files that it was read from.
    pub fn folders(&self) -> Vec<PathBuf> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = |path: &PathBuf| match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        state.files.iter().map(|(path, _)| folder(path)).collect()
    }

    /// What it says, read again if a file has changed.
    pub fn current(&self) -> Arc<Current> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.files.iter().any(|(path, then)| stamp(path) != *then) {
            match read(&self.path).and_then(|new| self.same_transport(&state, new)) {
                Ok(new) => {
                    info!(path = %self.path.display(), "the web configuration was read again");
                    *state = new;
                }
                Err(error) => {
                    error!(%error, "the web configuration stays as it was");
                    // Said once; the next change is tried again.
                    for (path, then) in &mut state.files {
                        *then = stamp(path);
                    }
                }
            }
        }
        Arc::clone(&state.current)
    }

    /// A port that speaks TLS must not begin to speak plain HTTP: who may listen where was decided at the start.
    fn same_transport(&self, old: &State, new: State) -> Result<State, WebError> {
        if old.current.tls.is_some() == new.current.tls.is_some() {
            return Ok(new);
        }
        let reason = "TLS can be turned on or off only by a restart".to_owned();
        Err(WebError::Malformed { path: self.path.clone(), reason })
    }
}

fn read(path: &Path) -> Result<State, WebError> {
    // The stamps first: what changes while it is read is read again.
    let own = (path.to_owned(), stamp(path));
    let file = File::read(path)?;
    let named = file.tls.iter().flat_map(file::Tls::files);
    let files = std::iter::once(own).chain(named.map(|path| (path.clone(), stamp(path)))).collect();
    let malformed = |reason| WebError::Malformed { path: path.to_owned(), reason };
    let tls = file.tls.as_ref().map(|tls| tls::acceptor(tls, path)).transpose()?;
    let users = Users::new(file.basic_auth_users).map_err(malformed)?;
    let headers = file::headers(&file.http.headers).map_err(malformed)?;
    Ok(State { current: Arc::new(Current { tls, users, headers }), files })
}

#[cfg(test)]
mod tests;
