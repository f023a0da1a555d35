//! Who may ask: names and bcrypt hashes, over HTTP's Basic authentication.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use headers::authorization::Basic;
use headers::{Authorization, HeaderMapExt as _};
use tokio::sync::Semaphore;

use super::super::problem::Problem;
use super::{Current, Web};

/// Passwords that were right are remembered: a hash takes tens of milliseconds of a core, and scrapes come every second.
const REMEMBERED: usize = 256;
/// One hash at a time: guessing passwords must not take the host's processors.
static HASHING: Semaphore = Semaphore::const_new(1);
/// A hash that nothing has, for names that nobody has: the answer takes as long as for the others. Of the usual cost.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuAyVQ4sVcXGGgd9Vxqcz6R.T1BSxwMeG";

/// Those who may ask.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// Two keyed hashes of name, bcrypt hash and password of those who were let in.
    known: Mutex<HashSet<(u64, u64)>>,
    keys: [RandomState; 2],
}

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, hash) in &hashes {
            hash.parse::<bcrypt::HashParts>().map_err(|error| {
                format!("basic_auth_users: the password of `{name}` must be a bcrypt hash, as `htpasswd -nBC 10 {name}` makes them: {error}")
            })?;
        }
        Ok(Self { hashes, known: Mutex::default(), keys: [RandomState::new(), RandomState::new()] })
    }

    fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    fn fingerprint(&self, name: &str, password: &str) -> (u64, u64) {
        let of = (name, self.hashes.get(name), password);
        (self.keys[0].hash_one(of), self.keys[1].hash_one(of))
    }

    fn is_known(&self, name: &str, password: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.hashes.contains_key(name) && known.contains(&self.fingerprint(name, password))
    }

    /// Whether the password is right. Takes long.
    fn verify(&self, name: &str, password: &str) -> bool {
        let hash = self.hashes.get(name);
        let right = bcrypt::verify(password, hash.map_or(NOBODY, String::as_str)).unwrap_or(false) && hash.is_some();
        if right {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(self.fingerprint(name, password));
        }
        right
    }
}

/// Lets a request through if it comes from somebody who may ask, and adds the configured headers to the answer.
pub async fn check(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let current = web.current();
    let given = request.headers().typed_get::<Authorization<Basic>>();
    let mut response = if current.users.is_empty() || is_allowed(&current, given).await {
        next.run(request).await
    } else {
        let mut refused = Problem::unauthorized().into_response();
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"zcprof\""));
        refused
    };
    response.headers_mut().extend(current.headers.clone());
    response
}

async fn is_allowed(current: &Arc<Current>, given: Option<Authorization<Basic>>) -> bool {
    let Some(Authorization(given)) = given else { return false };
    if current.users.is_known(given.username(), given.password()) {
        return true;
    }
    let Ok(_turn) = HASHING.acquire().await else { return false };
    let current = Arc::clone(current);
    let verified = tokio::task::spawn_blocking(move || current.users.verify(given.username(), given.password())).await;
    verified.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_is_let_in_and_remembered() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let users = Users::new(BTreeMap::from([("alice".to_owned(), hash)])).unwrap();
        for (name, password) in [("alice", "wrong"), ("bob", "secret"), ("", "")] {
            assert!(!users.verify(name, password), "{name}");
            assert!(!users.is_known(name, password), "{name}");
        }
        assert!(!users.is_known("alice", "secret"));
        assert!(users.verify("alice", "secret"));
        assert!(users.is_known("alice", "secret"));
        assert!(!users.is_known("alice", "wrong"));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let error = Users::new(BTreeMap::from([("alice".to_owned(), "secret".to_owned())])).err().unwrap();
        assert!(error.contains("alice") && error.contains("htpasswd"), "{error}");
        assert!(NOBODY.parse::<bcrypt::HashParts>().is_ok());
    }
}
