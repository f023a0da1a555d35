//! The file itself: the format of Prometheus's exporter-toolkit (docs/web-configuration.md there).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;

use super::WebError;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    #[serde(rename = "tls_server_config")]
    pub(super) tls: Option<Tls>,
    #[serde(rename = "http_server_config")]
    pub(super) http: Http,
    /// bcrypt hashes by name.
    pub(super) basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
    #[serde(default)]
    pub(super) client_auth_type: ClientAuth,
    pub(super) client_ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) client_allowed_sans: Vec<String>,
    #[serde(default)]
    pub(super) min_version: Version,
    #[serde(default = "newest")]
    pub(super) max_version: Version,
    #[serde(default)]
    pub(super) cipher_suites: Vec<String>,
    #[serde(default)]
    pub(super) curve_preferences: Vec<String>,
    /// The server's choice always counts here; in Go, too, since 1.17.
    #[serde(default, rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    /// HTTP/1.1 is spoken whatever this says.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    pub(super) headers: BTreeMap<String, String>,
}

/// Go's names.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum ClientAuth {
    #[default]
    #[serde(alias = "")]
    NoClientCert,
    RequestClientCert,
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[default]
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

fn newest() -> Version {
    Version::Tls13
}

impl Tls {
    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert_file, &self.key_file].into_iter().chain(&self.client_ca_file)
    }
}

impl File {
    /// Reads it; paths in it are relative to it.
    pub(super) fn read(path: &Path) -> Result<Self, WebError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| WebError::Unreadable { path: path.to_owned(), error })?;
        let mut file = Self::parse(&text).map_err(|reason| WebError::Malformed { path: path.to_owned(), reason })?;
        if let Some(tls) = &mut file.tls {
            let beside = path.parent().unwrap_or(Path::new(""));
            for named in [&mut tls.cert_file, &mut tls.key_file].into_iter().chain(&mut tls.client_ca_file) {
                *named = beside.join(&*named);
            }
        }
        Ok(file)
    }

    fn parse(text: &str) -> Result<Self, String> {
        // A file of comments alone is empty, not null.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }
}

/// The headers that may be set, and to what: those of the toolkit.
pub(super) fn headers(asked: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    const X_XSS_PROTECTION: HeaderName = header::X_XSS_PROTECTION;
    const ALLOWED: [HeaderName; 5] = [
        header::CONTENT_SECURITY_POLICY,
        header::STRICT_TRANSPORT_SECURITY,
        header::X_CONTENT_TYPE_OPTIONS,
        header::X_FRAME_OPTIONS,
        X_XSS_PROTECTION,
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in asked {
        let known = ALLOWED.into_iter().find(|allowed| name.eq_ignore_ascii_case(allowed.as_str()));
        let Some(name) = known else {
            let allowed = ALLOWED.map(|name| name.to_string()).join(", ");
            return Err(format!("http_server_config: the header `{name}` can't be set; these can: {allowed}"));
        };
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("http_server_config: `{value}` is no value of the header {name}"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_full_files_are_read() {
        for empty in ["", "\n# nothing\n", "basic_auth_users:\n  alice: x\n"] {
            assert!(File::parse(empty).unwrap().tls.is_none(), "{empty}");
        }
        let full = File::parse(
            "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  client_auth_type: RequireAndVerifyClientCert\n\
             \x20 client_ca_file: ca.crt\n  client_allowed_sans: [x.example]\n  min_version: TLS13\n  cipher_suites:\n\
             \x20 - TLS_AES_128_GCM_SHA256\n  curve_preferences: [X25519]\n  prefer_server_cipher_suites: true\n\
             http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n",
        )
        .unwrap();
        let tls = full.tls.unwrap();
        assert_eq!(tls.client_auth_type, ClientAuth::RequireAndVerifyClientCert);
        assert_eq!((tls.min_version, tls.max_version), (Version::Tls13, Version::Tls13));
        assert_eq!(tls.files().count(), 3);
        assert_eq!(headers(&full.http.headers).unwrap()[header::X_FRAME_OPTIONS], "deny");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("tls_server_config:\n  cert_file: x\n", "key_file"),
            ("tls_config:\n  cert_file: x\n", "tls_config"),
            ("tls_server_config:\n  cert_file: x\n  key_file: y\n  min_version: TLS9\n", "TLS9"),
            ("basic_auth_users: [alice]\n", "basic_auth_users"),
        ] {
            let error = File::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let header = BTreeMap::from([("server".to_owned(), "x".to_owned())]);
        assert!(headers(&header).unwrap_err().contains("x-frame-options"));
    }
}
