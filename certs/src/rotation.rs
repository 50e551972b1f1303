//! Other authorities in the place of a cluster's, and another key of service account tokens.
//!
//! Invariant: whoever trusts only what was there before believes what the new authorities sign, and what the old ones signed is
//! believed as before, unless that is given up expressly; and no server is left with an authority whose key is another's.

use std::collections::BTreeMap;
use std::path::Path;

use rcgen::{CertificateParams, Issuer, KeyPair};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use crate::ca;
use crate::files::pem;
use crate::shared::{SERVICE_KEY, is_known};

/// What authorities are called in the names of their files, and in their own.
pub(crate) const AUTHORITIES: [(&str, &str); 4] = [
    ("server-ca", "server"),
    ("client-ca", "client"),
    ("request-header-ca", "request-header"),
    ("etcd-client-ca", "etcd-client"),
];

/// Longest chain, and most certificates and keys of one file.
const MOST: usize = 16;

/// The contents of files by their names.
pub type Files = BTreeMap<String, String>;

/// Why files cannot take the place of those that there are.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("{0} is none of the files of authorities")]
    Unknown(String),
    #[error("the files are those that there are already")]
    Same,
    #[error("{file}: {what}")]
    Unusable { file: String, what: String },
    /// Would be there, if that was wanted.
    #[error("{file}: {what}")]
    Broken { file: String, what: String },
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

impl RotationError {
    fn unusable(file: &str, what: impl std::fmt::Display) -> Self {
        Self::Unusable { file: file.to_owned(), what: what.to_string() }
    }

    fn broken(file: &str, what: impl std::fmt::Display) -> Self {
        Self::Broken { file: file.to_owned(), what: what.to_string() }
    }
}

/// New authorities for all that there are, each certified by the one before it too, and a new key of tokens before the one that signs.
///
/// # Errors
/// When what there is cannot be read.
pub fn made(there: &Files, now: OffsetDateTime) -> Result<Files, RotationError> {
    let mut new = Files::new();
    for (file, name) in AUTHORITIES {
        let (certificate, key) = (format!("{file}.crt"), format!("{file}.key"));
        let (Some(old_certificate), Some(old_key)) = (there.get(&certificate), there.get(&key)) else { continue };
        let name = format!("kedge-{name}-ca@{}", now.unix_timestamp());
        let new_key = KeyPair::generate()?;
        new.insert(certificate, certified(&name, &new_key, (old_certificate, old_key), now)?);
        new.insert(key, new_key.serialize_pem());
    }
    if let Some(old) = there.get(SERVICE_KEY) {
        // Tokens that the key before the last one signed have run out, or are not worth to be trusted for ever.
        let last = blocks(SERVICE_KEY, old)?.into_iter().next();
        let last = last.map(|block| pem(&block.label, &block.contents)).unwrap_or_default();
        new.insert(SERVICE_KEY.to_owned(), KeyPair::generate()?.serialize_pem() + &last);
    }
    Ok(new)
}

/// The certificate of a new authority by the old one, by itself, and the old one's. In this order programs that take the first
/// issuer they see find the way to what they trust.
fn certified(
    name: &str,
    key: &KeyPair,
    (old, old_key): (&str, &str),
    now: OffsetDateTime,
) -> Result<String, RotationError> {
    let old_issuer = Issuer::from_ca_cert_pem(old, KeyPair::from_pem(old_key)?)?;
    let mut by_old: CertificateParams = ca::params(name, now)?;
    let blocks = blocks(name, old)?;
    let trusted: Vec<X509Certificate<'_>> = certificates(name, &blocks)?;
    let unreadable = || RotationError::unusable(name, "the authority before it has no certificate");
    let issuing = trusted.first().ok_or_else(unreadable)?;
    by_old.not_after = by_old.not_after.min(issuing.validity().not_after.to_datetime());
    // Of what was trusted, what the last authority is known by; what came before that ends here.
    let is_root =
        |one: &&X509Certificate<'_>| one.subject() == one.issuer() && one.public_key().raw == issuing.public_key().raw;
    let root = trusted.iter().find(is_root).unwrap_or(issuing);
    let own = ca::params(name, now)?.self_signed(key)?.pem();
    Ok(by_old.signed_by(key, &old_issuer)?.pem() + &own + &pem("CERTIFICATE", root.as_raw()))
}

/// What there is then: the files given in the place of those with their names. `forced` gives up that who trusts the old ones
/// believes the new ones.
///
/// # Errors
/// What is wrong with the first file of which something is.
pub fn checked(there: &Files, given: &Files, forced: bool, now: OffsetDateTime) -> Result<Files, RotationError> {
    let mut then = there.clone();
    for (file, content) in given {
        if !is_known(file) || !there.contains_key(file) {
            return Err(RotationError::Unknown(file.clone()));
        }
        then.insert(file.clone(), content.clone());
    }
    if then == *there {
        return Err(RotationError::Same);
    }
    for (name, _) in AUTHORITIES {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        let (Some(new), Some(new_key)) = (then.get(&certificate), then.get(&key)) else { continue };
        let old = there.get(&certificate).map(String::as_str).unwrap_or_default();
        if new == old && there.get(&key) == Some(new_key) {
            continue;
        }
        usable(&certificate, new, (&key, new_key), now)?;
        if !forced {
            follows(&certificate, old, new)?;
        }
    }
    if let (Some(old), Some(new)) = (there.get(SERVICE_KEY), then.get(SERVICE_KEY))
        && old != new
    {
        let keys = keys(new)?;
        let signing = self::keys(old)?.into_iter().next();
        if !forced && signing.is_some_and(|signing| !keys.contains(&signing)) {
            let what = "old ServiceAccount signing key not in new ServiceAccount key list";
            return Err(RotationError::broken(SERVICE_KEY, what));
        }
    }
    Ok(then)
}

/// An authority that a server can start with: its first certificate is an authority's, now, and the key is that one's.
fn usable(
    file: &str,
    certificate: &str,
    (key_file, key): (&str, &str),
    now: OffsetDateTime,
) -> Result<(), RotationError> {
    let bad = |what: &str| RotationError::unusable(file, what);
    let blocks = blocks(file, certificate)?;
    let all = certificates(file, &blocks)?;
    let first = all.first().ok_or_else(|| bad("it has no certificate"))?;
    if !first.is_ca() {
        return Err(bad("its first certificate is no authority's"));
    }
    let (from, until) = (first.validity().not_before.timestamp(), first.validity().not_after.timestamp());
    if !(from..=until).contains(&now.unix_timestamp()) {
        return Err(bad("its first certificate is not valid now"));
    }
    let key = KeyPair::from_pem(key)
        .map_err(|err| RotationError::unusable(key_file, format!("it is no private key in PKCS#8: {err}")))?;
    if first.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(bad("private key does not match public key"));
    }
    Issuer::from_ca_cert_pem(certificate, key).map(drop).map_err(|err| RotationError::unusable(file, err))
}

/// That the first new certificate leads to one of the old ones.
fn follows(file: &str, old: &str, new: &str) -> Result<(), RotationError> {
    let (old_blocks, new_blocks) = (blocks(file, old)?, blocks(file, new)?);
    let (old, new) = (certificates(file, &old_blocks)?, certificates(file, &new_blocks)?);
    if new.len() == 1 && old.first().is_none_or(|old| old.as_raw() != new[0].as_raw()) {
        let what =
            "new CA bundle contains only a single certificate but should include root or intermediate CA certificates";
        return Err(RotationError::broken(file, what));
    }
    let mut reached: Vec<&X509Certificate<'_>> = new.first().into_iter().collect();
    let mut at = 0;
    while let Some(one) = reached.get(at).copied() {
        at += 1;
        let is_old =
            |old: &X509Certificate<'_>| old.subject() == one.subject() && old.public_key().raw == one.public_key().raw;
        if old.iter().any(is_old) {
            return Ok(());
        }
        for other in old.iter().chain(&new) {
            let is_issuer = other.subject() == one.issuer() && one.verify_signature(Some(other.public_key())).is_ok();
            if is_issuer && !reached.iter().any(|seen| seen.as_raw() == other.as_raw()) {
                reached.push(other);
            }
        }
    }
    Err(RotationError::broken(file, "new CA cert cannot be verified using old CA chain"))
}

fn blocks(file: &str, text: &str) -> Result<Vec<Pem>, RotationError> {
    let all = Pem::iter_from_buffer(text.as_bytes()).take(MOST + 1).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|err| RotationError::unusable(file, err))?;
    if all.len() > MOST {
        Err(RotationError::unusable(file, format!("it has more than {MOST} parts")))
    } else {
        Ok(all)
    }
}

fn certificates<'a>(file: &str, blocks: &'a [Pem]) -> Result<Vec<X509Certificate<'a>>, RotationError> {
    let parsed = blocks.iter().map(|block| X509Certificate::from_der(&block.contents).map(|(_, parsed)| parsed));
    parsed.collect::<Result<_, _>>().map_err(|err| RotationError::unusable(file, err))
}

/// The public halves of private keys.
fn keys(text: &str) -> Result<Vec<Vec<u8>>, RotationError> {
    let bad = |err: &dyn std::fmt::Display| {
        RotationError::unusable(SERVICE_KEY, format!("it has something else than private keys in PKCS#8: {err}"))
    };
    let mut keys = Vec::new();
    for block in blocks(SERVICE_KEY, text)? {
        let key = KeyPair::from_pem(&pem(&block.label, &block.contents)).map_err(|err| bad(&err))?;
        keys.push(key.public_key_raw().to_vec());
    }
    if keys.is_empty() { Err(bad(&"there is none")) } else { Ok(keys) }
}

/// The files of a directory that is given with new authorities, or of its `tls`, as far as they are known.
///
/// # Errors
/// When one cannot be read.
pub fn given(dir: &Path) -> Result<Files, crate::Error> {
    let tls = dir.join("tls");
    crate::shared::all_of(if tls.is_dir() { &tls } else { dir })
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
