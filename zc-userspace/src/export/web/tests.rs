//! TLS, passwords and headers over real sockets, and the files re-read.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use super::super::serve::serve;
use super::{Web, WebError, check};

/// Somebody who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Writes a certificate and its key.
    fn write(&self, directory: &Path, name: &str) {
        let (certificate, key) = self.sign("localhost");
        fs::write(directory.join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn client(
        &self,
        name: Option<&str>,
        versions: &[&'static tokio_rustls::rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (certificate, key) = self.sign(name);
                let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap()
            }
        }
    }
}

const BOTH: [&tokio_rustls::rustls::SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// What a server with this web configuration answers.
struct Site {
    address: SocketAddr,
    web: Arc<Web>,
}

impl Site {
    async fn start(config: &Path) -> Self {
        let web = Arc::new(Web::load(config).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(async || "here"))
            .layer(middleware::from_fn_with_state(Arc::clone(&web), check));
        // Ends with the test's runtime.
        tokio::spawn(serve(
            vec![crate::export::listen::Listener::Tcp(listener)],
            router,
            Some(Arc::clone(&web)),
            std::future::pending(),
        ));
        Self { address, web }
    }

    async fn plain(&self, headers: &str) -> String {
        talk(TcpStream::connect(self.address).await.unwrap(), headers).await.unwrap_or_default()
    }

    /// None where there is no TLS.
    async fn encrypted(&self, client: ClientConfig) -> Option<String> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.ok()?;
        talk(stream, "").await.ok().filter(|answer| !answer.is_empty())
    }
}

async fn talk(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    headers: &str,
) -> std::io::Result<String> {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200") && answer.ends_with("here")
}

#[test]
fn speaks_tls_and_nothing_else_where_it_is_configured() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (authority, config) = (Authority::new(), directory.path().join("web.yml"));
        authority.write(directory.path(), "a");
        fs::write(&config, "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  min_version: TLS13\n")
            .unwrap();
        let site = Site::start(&config).await;
        assert!(is_ok(&site.encrypted(authority.client(None, &BOTH)).await.unwrap()));
        assert_eq!(site.encrypted(authority.client(None, &[&version::TLS12])).await, None, "too old");
        assert_eq!(site.encrypted(Authority::new().client(None, &BOTH)).await, None, "signed by somebody else");
        assert!(!is_ok(&site.plain("").await));
    });
}

#[test]
fn clients_show_a_certificate_with_an_allowed_name() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (authority, config) = (Authority::new(), directory.path().join("web.yml"));
        authority.write(directory.path(), "a");
        fs::write(directory.path().join("ca.crt"), authority.0.pem()).unwrap();
        let text = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  client_ca_file: ca.crt\n  \
                    client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [scraper.example]\n";
        fs::write(&config, text).unwrap();
        let site = Site::start(&config).await;
        assert!(is_ok(&site.encrypted(authority.client(Some("scraper.example"), &BOTH)).await.unwrap()));
        assert_eq!(site.encrypted(authority.client(Some("other.example"), &BOTH)).await, None);
        assert_eq!(site.encrypted(authority.client(None, &BOTH)).await, None);
        // Signed by somebody whom the server does not know, though the client knows the server.
        let mut stranger = authority.client(None, &BOTH);
        let (certificate, key) = Authority::new().sign("scraper.example");
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&BOTH).unwrap();
        stranger = builder
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap_or(stranger);
        assert_eq!(site.encrypted(stranger).await, None);
    });
}

#[test]
fn names_and_passwords_are_asked_for_and_headers_set() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("web.yml");
        let hash = bcrypt::hash("secret", 4).unwrap();
        let text = format!(
            "basic_auth_users:\n  alice: {hash}\nhttp_server_config:\n  headers:\n    X-Frame-Options: SAMEORIGIN\n"
        );
        fs::write(&config, text).unwrap();
        let site = Site::start(&config).await;
        let refused = site.plain("").await;
        assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("www-authenticate: Basic"), "{refused}");
        assert!(refused.contains("application/problem+json") && refused.contains("x-frame-options: SAMEORIGIN"));
        // alice:secret and alice:secrex
        assert!(is_ok(&site.plain("authorization: Basic YWxpY2U6c2VjcmV0\r\n").await));
        assert!(is_ok(&site.plain("authorization: Basic YWxpY2U6c2VjcmV0\r\n").await));
        assert!(site.plain("authorization: Basic YWxpY2U6c2VjcmV4\r\n").await.starts_with("HTTP/1.1 401"));
        assert!(site.plain("authorization: Basic %%%\r\n").await.starts_with("HTTP/1.1 401"));
        assert!(site.plain("authorization: Bearer YWxpY2U6c2VjcmV0\r\n").await.starts_with("HTTP/1.1 401"));
    });
}

#[test]
fn files_are_read_again_when_they_change_and_faulty_ones_change_nothing() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (old, new, config) = (Authority::new(), Authority::new(), directory.path().join("web.yml"));
        old.write(directory.path(), "a");
        let tls = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";
        fs::write(&config, tls).unwrap();
        let site = Site::start(&config).await;
        assert!(is_ok(&site.encrypted(old.client(None, &BOTH)).await.unwrap()));
        new.write(directory.path(), "a");
        assert!(is_ok(&site.encrypted(new.client(None, &BOTH)).await.unwrap()), "a new certificate");
        assert_eq!(site.encrypted(old.client(None, &BOTH)).await, None);
        for faulty in ["tls_server_config: [\n", "", "tls_server_config:\n  cert_file: b.crt\n  key_file: a.key\n"] {
            fs::write(&config, faulty).unwrap();
            assert!(is_ok(&site.encrypted(new.client(None, &BOTH)).await.unwrap()), "after {faulty:?}");
            assert!(site.web.current().tls.is_some());
        }
        fs::write(&config, format!("{tls}basic_auth_users:\n  alice: {}\n", bcrypt::hash("x", 4).unwrap())).unwrap();
        assert!(site.encrypted(new.client(None, &BOTH)).await.unwrap().starts_with("HTTP/1.1 401"));
    });
}

#[test]
fn what_can_not_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("web.yml");
    Authority::new().write(directory.path(), "a");
    Authority::new().write(directory.path(), "b");
    let tls = |cert: &str, key: &str, more: &str| {
        fs::write(&config, format!("tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n{more}")).unwrap();
        match Web::load(&config) {
            Err(error @ (WebError::Unreadable { .. } | WebError::Malformed { .. })) => error.to_string(),
            Ok(_) => panic!("{cert}, {key}, {more}: nothing was wrong"),
        }
    };
    for (cert, key, more, says) in [
        ("none.crt", "a.key", "", "none.crt"),
        ("a.crt", "b.key", "", "no key of"),
        ("a.key", "a.key", "", "no certificate"),
        ("a.crt", "a.crt", "", "a.crt"),
        ("a.crt", "a.key", "  min_version: TLS10\n", "TLS12"),
        ("a.crt", "a.key", "  min_version: TLS13\n  max_version: TLS12\n", "above"),
        ("a.crt", "a.key", "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n", "TLS_AES_128_GCM_SHA256"),
        ("a.crt", "a.key", "  curve_preferences: [CurveP999]\n", "X25519"),
        ("a.crt", "a.key", "  client_auth_type: RequireAndVerifyClientCert\n", "client_ca_file"),
        ("a.crt", "a.key", "  client_auth_type: RequireAnyClientCert\n", "verifies nothing"),
        ("a.crt", "a.key", "  client_ca_file: a.crt\n", "client_auth_type"),
    ] {
        let error = tls(cert, key, more);
        assert!(error.contains(says) && error.contains(directory.path().to_str().unwrap()), "{error}");
    }
}
