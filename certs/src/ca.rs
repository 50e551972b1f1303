//! Certificate authorities.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

use crate::CA_DAYS;
use crate::error::Error;
use crate::files::{read_if_there, write_atomically};

/// An authority: its certificate, and what it signs with.
pub struct Authority {
    /// PEM.
    pub certificate: String,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads `<file>.crt` and `<file>.key`, or makes both.
    pub(crate) fn ensure(dir: &Path, file: &str, name: &str, now: OffsetDateTime) -> Result<Self, Error> {
        let (cert_path, key_path) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
        let key_pem = ensure_key(&key_path)?;
        let parse = |path: &Path| {
            let path = path.to_owned();
            move |e: rcgen::Error| Error::Parse { path, what: e.to_string() }
        };
        let key = KeyPair::from_pem(&key_pem).map_err(parse(&key_path))?;
        let certificate = match read_if_there(&cert_path)? {
            Some(pem) => pem,
            None => {
                let pem = params(name, now)?.self_signed(&key)?.pem();
                write_atomically(&cert_path, pem.as_bytes(), 0o644)?;
                pem
            }
        };
        Self::new(certificate, key).map_err(parse(&cert_path))
    }

    /// Since when it is valid, in seconds since 1970, if that can be read.
    pub(crate) fn valid_from(&self) -> Option<i64> {
        let (_, block) = x509_parser::pem::parse_x509_pem(self.certificate.as_bytes()).ok()?;
        Some(block.parse_x509().ok()?.validity().not_before.timestamp())
    }

    /// An authority of a certificate in PEM and its key.
    pub(crate) fn new(certificate: String, key: KeyPair) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)?;
        Ok(Self { certificate, issuer })
    }
}

/// The key is nobody's business.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What the certificate of an authority says.
pub(crate) fn params(name: &str, now: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Clocks of boards that have just booted are often a little behind.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(CA_DAYS);
    Ok(params)
}

/// Loads a private key, or makes one.
pub(crate) fn ensure_key(path: &Path) -> Result<String, Error> {
    if let Some(pem) = read_if_there(path)? {
        return Ok(pem);
    }
    let pem = KeyPair::generate()?.serialize_pem();
    write_atomically(path, pem.as_bytes(), 0o600)?;
    Ok(pem)
}
