//! TLS as the web configuration asks for it.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    self, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use super::WebError;
use super::file::{ClientAuth, Tls, Version};

/// What accepts TLS connections with this configuration; `file` is what to blame.
pub(super) fn acceptor(tls: &Tls, file: &Path) -> Result<TlsAcceptor, WebError> {
    let blame = |reason: String| WebError::Malformed { path: file.to_owned(), reason };
    let provider = Arc::new(provider(tls).map_err(blame)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(tls).map_err(blame)?)
        .map_err(|error| blame(format!("tls_server_config: {error}; check min_version and cipher_suites")))?;
    let builder = match verifier(tls, provider, file)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let chain = certificates(&tls.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|error| unreadable(&tls.key_file, error))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        blame(format!("{} is no key of {}: {error}", tls.key_file.display(), tls.cert_file.display()))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> WebError {
    WebError::Unreadable { path: path.to_owned(), error: std::io::Error::other(format!("as PEM: {error}")) }
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WebError> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| unreadable(path, error))?;
    if all.is_empty() { Err(unreadable(path, "there is no certificate in it")) } else { Ok(all) }
}

/// Versions from the least to the greatest that is allowed.
fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    if tls.min_version < Version::Tls12 || tls.max_version < Version::Tls12 {
        return Err("tls_server_config: TLS before 1.2 is broken and not spoken; give TLS12 or TLS13".to_owned());
    }
    if tls.min_version > tls.max_version {
        return Err("tls_server_config: min_version is above max_version".to_owned());
    }
    let known = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)];
    let allowed = known.into_iter().filter(|(version, _)| (tls.min_version..=tls.max_version).contains(version));
    Ok(allowed.map(|(_, version)| version).collect())
}

/// All cipher suites and groups, or those that are asked for, under Go's names.
fn provider(tls: &Tls) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        // IANA's names, but for "TLS13" in front of those of 1.3.
        let name = |suite: &rustls::SupportedCipherSuite| {
            suite.suite().as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
        };
        let all: Vec<String> = provider.cipher_suites.iter().map(name).collect();
        for asked in &tls.cipher_suites {
            // Go leaves out the hash in these two.
            if !all.iter().any(|known| known.trim_end_matches("_SHA256") == asked.trim_end_matches("_SHA256")) {
                return Err(format!("tls_server_config: no cipher suite `{asked}`; there are: {}", all.join(", ")));
            }
        }
        let wanted = |known: &str| {
            tls.cipher_suites.iter().any(|one| one.trim_end_matches("_SHA256") == known.trim_end_matches("_SHA256"))
        };
        provider.cipher_suites.retain(|suite| wanted(&name(suite)));
    }
    if !tls.curve_preferences.is_empty() {
        let group = |asked: &String| {
            let name = match asked.as_str() {
                "X25519" => rustls::NamedGroup::X25519,
                "CurveP256" => rustls::NamedGroup::secp256r1,
                "CurveP384" => rustls::NamedGroup::secp384r1,
                _ => {
                    return Err(format!(
                        "tls_server_config: no curve `{asked}`; there are: X25519, CurveP256, CurveP384"
                    ));
                }
            };
            let found = provider.kx_groups.iter().copied().find(|group| group.name() == name);
            found.ok_or_else(|| format!("tls_server_config: no curve `{asked}` in this build"))
        };
        provider.kx_groups = tls.curve_preferences.iter().map(group).collect::<Result<_, _>>()?;
    }
    Ok(provider)
}

/// What checks clients' certificates; none if nobody asks for them.
fn verifier(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
    file: &Path,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, WebError> {
    let blame = |reason: &str| WebError::Malformed { path: file.to_owned(), reason: reason.to_owned() };
    let optional = match tls.client_auth_type {
        ClientAuth::NoClientCert if tls.client_ca_file.is_none() && tls.client_allowed_sans.is_empty() => {
            return Ok(None);
        }
        ClientAuth::NoClientCert => {
            return Err(blame(
                "tls_server_config: client_ca_file and client_allowed_sans need client_auth_type: RequireAndVerifyClientCert",
            ));
        }
        ClientAuth::RequestClientCert | ClientAuth::RequireAnyClientCert => {
            return Err(blame(
                "tls_server_config: a client_auth_type that verifies nothing protects nothing; give VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            ));
        }
        ClientAuth::VerifyClientCertIfGiven => true,
        ClientAuth::RequireAndVerifyClientCert => false,
    };
    let Some(ca_file) = &tls.client_ca_file else {
        return Err(blame("tls_server_config: verifying clients needs client_ca_file"));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots.add(certificate).map_err(|error| unreadable(ca_file, error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    let inner = builder.build().map_err(|error| unreadable(ca_file, error))?;
    if tls.client_allowed_sans.is_empty() {
        return Ok(Some(inner));
    }
    Ok(Some(Arc::new(Named { inner, allowed: tls.client_allowed_sans.clone() })))
}

/// Lets only certificates with certain names in.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure);
        let certificate = webpki::EndEntityCert::try_from(end_entity).map_err(|_| refused.clone())?;
        let mut names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
        if names.any(|name| self.allowed.iter().any(|allowed| allowed == name)) { Ok(verified) } else { Err(refused) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
