//! Leaf certificates: issued once, kept while they fit.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};
use tracing::info;
use x509_parser::extensions::GeneralName;

use crate::ca::Authority;
use crate::error::Error;
use crate::files::{create_private_dir, read_if_there, write_atomically};
use crate::{LEAF_DAYS, RENEW_DAYS};

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    pub common_name: String,
    pub organization: Option<String>,
    /// DNS names and IP addresses.
    pub names: Vec<String>,
    pub usage: Usage,
}

/// A certificate and its key, both PEM; the certificate is followed by its authority's.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

impl Leaf {
    /// When it is time for another, in seconds; at once, if nobody can tell.
    pub fn renewed_at(&self) -> i64 {
        let end = crate::not_after(self.certificate.as_bytes());
        end.map_or(i64::MIN, |end| end - Duration::days(RENEW_DAYS).whole_seconds())
    }
}

/// A leaf that is kept in a directory, under `<file>.crt` and `<file>.key`.
#[derive(Debug, Clone)]
pub struct KeptLeaf {
    pub(crate) dir: PathBuf,
    pub(crate) file: String,
    pub(crate) authority: Arc<Authority>,
    pub(crate) request: LeafRequest,
}

impl KeptLeaf {
    /// The name of its files.
    pub fn file(&self) -> &str {
        &self.file
    }

    fn paths(&self) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{}.crt", self.file)), self.dir.join(format!("{}.key", self.file)))
    }

    /// Loads it, or issues it anew when it is missing, runs out soon, is of another authority or says something else.
    ///
    /// # Errors
    /// When a file cannot be read or written, or the request is nothing that a certificate can say.
    pub fn ensure(&self, now: OffsetDateTime) -> Result<Leaf, Error> {
        let (cert_path, key_path) = self.paths();
        let stored = (read_if_there(&cert_path)?, read_if_there(&key_path)?);
        if let (Some(certificate), Some(key)) = stored {
            match unfit(&certificate, &key, &self.authority, &self.request, now) {
                None => return Ok(Leaf { certificate, key }),
                Some(why) => info!(certificate = %cert_path.display(), why, "issuing anew"),
            }
        }
        self.issue(now)
    }

    /// Issues it anew.
    ///
    /// # Errors
    /// As [`KeptLeaf::ensure`].
    pub fn issue(&self, now: OffsetDateTime) -> Result<Leaf, Error> {
        create_private_dir(&self.dir)?;
        let leaf = issue(&self.authority, &self.request, now)?;
        // Whoever is cut off in between finds a certificate of another key, which is issued anew.
        let (cert_path, key_path) = self.paths();
        write_atomically(&key_path, leaf.key.as_bytes(), 0o600)?;
        write_atomically(&cert_path, leaf.certificate.as_bytes(), 0o644)?;
        Ok(leaf)
    }
}

fn issue(authority: &Authority, request: &LeafRequest, now: OffsetDateTime) -> Result<Leaf, Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(request.names.clone())?;
    params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
    if let Some(organization) = &request.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match request.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(LEAF_DAYS);
    let certificate = params.signed_by(&key, &authority.issuer)?.pem();
    Ok(Leaf { certificate: certificate + &authority.certificate, key: key.serialize_pem() })
}

/// Why a stored certificate cannot be kept.
fn unfit(
    pem: &str,
    key: &str,
    authority: &Authority,
    request: &LeafRequest,
    now: OffsetDateTime,
) -> Option<&'static str> {
    if !pem.ends_with(&authority.certificate) {
        return Some("it is of another authority");
    }
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else { return Some("it cannot be read") };
    let Ok(certificate) = block.parse_x509() else { return Some("it cannot be read") };
    let Ok(key) = KeyPair::from_pem(key) else { return Some("its key cannot be read") };
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Some("it is of another key");
    }
    // One that is not valid yet stays, if its authority is not valid either: boards begin with a clock that is years behind. One of a valid
    // authority was made while the clock was ahead.
    let (from, now_at) = (certificate.validity().not_before.timestamp(), now.unix_timestamp());
    let ahead = from > now_at + Duration::days(1).whole_seconds();
    if ahead && authority.valid_from().is_some_and(|valid| valid <= now_at) {
        return Some("it is not valid yet");
    }
    let left = certificate.validity().not_after.timestamp() - now.unix_timestamp();
    if left < Duration::days(RENEW_DAYS).whole_seconds() {
        return Some("it runs out soon");
    }
    let subject = certificate.subject();
    let common_name = subject.iter_common_name().next().and_then(|a| a.as_str().ok());
    let organization = subject.iter_organization().next().and_then(|a| a.as_str().ok());
    if common_name != Some(&request.common_name) || organization != request.organization.as_deref() {
        return Some("its subject has changed");
    }
    let wanted: BTreeSet<String> = request.names.iter().cloned().collect();
    if names(&certificate) != wanted {
        return Some("its names have changed");
    }
    None
}

fn names(certificate: &x509_parser::certificate::X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}
