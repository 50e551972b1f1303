//! Certificates for requests: byte for byte what upstream's signing controllers make of them.
//!
//! A certificate carries the request's subject and names, and no other of its wishes: the usages are those that the signer grants,
//! it is never an authority's, and it does not outlive its issuer.

use std::net::IpAddr;

use kedge_base::random;
use rcgen::{KeyPair, SigningKey as _};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der};

use crate::ca::Authority;
use crate::request::{SigningRequest, Subject};
use crate::usages::Usages;

/// Clocks differ a little; as upstream.
const BACKDATE: Duration = Duration::minutes(5);
/// What is valid for less ends when it was asked to, not earlier by the backdating.
const SHORT: Duration = Duration::hours(8);

/// Why an authority does not sign.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the signer has expired: NotAfter={0}")]
    Expired(OffsetDateTime),
    #[error("unrecognized usage values: {0:?}")]
    Usages(Vec<String>),
    #[error("the authority's certificate cannot be read")]
    Authority,
    #[error("failed to sign certificate: {0}")]
    Failed(#[from] rcgen::Error),
}

/// From when and until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Validity {
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Validity {
    fn new(now: OffsetDateTime, lifetime: Duration, issuer_until: OffsetDateTime) -> Result<Self, SignError> {
        if now >= issuer_until {
            return Err(SignError::Expired(issuer_until));
        }
        let lifetime = if lifetime < SHORT { lifetime } else { lifetime - BACKDATE };
        let end = now.checked_add(lifetime).unwrap_or(issuer_until);
        Ok(Self { from: now.saturating_sub(BACKDATE), until: end.min(issuer_until) })
    }
}

/// What a certificate says of who issued it.
struct Issuer<'a> {
    /// The name in DER.
    name: &'a [u8],
    key_id: Option<&'a [u8]>,
    algorithm: &'static Algorithm,
}

struct Algorithm {
    oid: &'static [u64],
    has_null: bool,
}

static ED25519: Algorithm = Algorithm { oid: &[1, 3, 101, 112], has_null: false };
static P256: Algorithm = Algorithm { oid: &[1, 2, 840, 10045, 4, 3, 2], has_null: false };
static P384: Algorithm = Algorithm { oid: &[1, 2, 840, 10045, 4, 3, 3], has_null: false };
static RSA: Algorithm = Algorithm { oid: &[1, 2, 840, 113_549, 1, 1, 11], has_null: true };

fn algorithm(key: &KeyPair) -> Result<&'static Algorithm, SignError> {
    let known = [
        (&rcgen::PKCS_ED25519, &ED25519),
        (&rcgen::PKCS_ECDSA_P256_SHA256, &P256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &P384),
        (&rcgen::PKCS_RSA_SHA256, &RSA),
    ];
    let found = known.into_iter().find(|(of, _)| *of == key.algorithm());
    found.map(|(_, algorithm)| algorithm).ok_or(SignError::Failed(rcgen::Error::UnsupportedSignatureAlgorithm))
}

impl Authority {
    /// Signs a request: a certificate in PEM, valid for `lifetime` or until the authority's own end.
    ///
    /// # Errors
    /// When the authority has run out or its key fails.
    pub fn sign(
        &self,
        request: &SigningRequest,
        usages: &Usages,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<String, SignError> {
        let serial: [u8; 16] = random::bytes();
        self.sign_with(request, usages, lifetime, now, &serial)
    }

    fn sign_with(
        &self,
        request: &SigningRequest,
        usages: &Usages,
        lifetime: Duration,
        now: OffsetDateTime,
        serial: &[u8],
    ) -> Result<String, SignError> {
        let (_, block) = parse_x509_pem(self.certificate.as_bytes()).map_err(|_| SignError::Authority)?;
        let own = block.parse_x509().map_err(|_| SignError::Authority)?;
        let key = self.issuer.key();
        let key_id = own.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
        let issuer = Issuer { name: own.subject().as_raw(), key_id, algorithm: algorithm(key)? };
        let validity = Validity::new(now, lifetime, own.validity().not_after.to_datetime())?;
        let content =
            construct_der(|w| w.write_sequence(|w| to_be_signed(w, &issuer, request, usages, validity, serial)));
        let signature = key.sign(&content)?;
        let certificate = construct_der(|w| {
            w.write_sequence(|w| {
                w.next().write_der(&content);
                write_algorithm(w.next(), issuer.algorithm);
                w.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(crate::files::pem("CERTIFICATE", &certificate))
    }
}

fn to_be_signed(
    w: &mut DERWriterSeq<'_>,
    issuer: &Issuer<'_>,
    request: &SigningRequest,
    usages: &Usages,
    validity: Validity,
    serial: &[u8],
) {
    w.next().write_tagged(Tag::context(0), |w| w.write_u8(2));
    w.next().write_bigint_bytes(serial, true);
    write_algorithm(w.next(), issuer.algorithm);
    w.next().write_der(issuer.name);
    w.next().write_sequence(|w| {
        write_time(w.next(), validity.from);
        write_time(w.next(), validity.until);
    });
    let subject = construct_der(|w| write_subject(w, &request.subject));
    w.next().write_der(&subject);
    w.next().write_der(&request.public_key);
    let is_own_name = subject == issuer.name;
    w.next().write_tagged(Tag::context(3), |w| {
        w.write_sequence(|w| {
            usages.write(w);
            // No authority, and therefore nothing to say.
            write_extension(w, &[2, 5, 29, 19], true, |w| w.write_sequence(|_| {}));
            if let Some(id) = issuer.key_id.filter(|_| !is_own_name) {
                write_extension(w, &[2, 5, 29, 35], false, |w| {
                    w.write_sequence(|w| w.next().write_tagged_implicit(Tag::context(0), |w| w.write_bytes(id)));
                });
            }
            write_names(w, request, request.subject == Subject::default());
        });
    });
}

fn write_algorithm(w: DERWriter<'_>, algorithm: &Algorithm) {
    w.write_sequence(|w| {
        w.next().write_oid(&ObjectIdentifier::from_slice(algorithm.oid));
        if algorithm.has_null {
            w.next().write_null();
        }
    });
}

/// Two digits of the year until 2049.
fn write_time(w: DERWriter<'_>, time: OffsetDateTime) {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    if (1950..2050).contains(&time.year()) {
        w.write_utctime(&UTCTime::from_datetime(time));
    } else {
        w.write_generalized_time(&GeneralizedTime::from_datetime(time));
    }
}

/// All values of an attribute in one set.
fn write_subject(w: DERWriter<'_>, subject: &Subject) {
    w.write_sequence(|w| {
        for (number, values) in subject.attributes() {
            w.next().write_set_of(|w| {
                for value in values {
                    w.next().write_sequence(|w| {
                        w.next().write_oid(&ObjectIdentifier::from_slice(&[2, 5, 4, number]));
                        write_text(w.next(), value);
                    });
                }
            });
        }
    });
}

fn write_text(w: DERWriter<'_>, text: &str) {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b)) {
        w.write_printable_string(text);
    } else {
        w.write_utf8_string(text);
    }
}

fn write_names(w: &mut DERWriterSeq<'_>, request: &SigningRequest, critical: bool) {
    let bytes = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let texts = |tag: u64, texts: &[String]| {
        let all: Vec<_> = texts.iter().map(|text| (tag, text.as_bytes().to_vec())).collect();
        all
    };
    let mut names = texts(2, &request.dns_names);
    names.extend(texts(1, &request.email_addresses));
    names.extend(request.ip_addresses.iter().map(|ip| (7, bytes(ip))));
    names.extend(texts(6, &request.uris));
    if names.is_empty() {
        return;
    }
    write_extension(w, &[2, 5, 29, 17], critical, |w| {
        w.write_sequence(|w| {
            for (tag, bytes) in &names {
                w.next().write_tagged_implicit(Tag::context(*tag), |w| w.write_bytes(bytes));
            }
        });
    });
}

/// An extension with its content.
pub(crate) fn write_extension(
    w: &mut DERWriterSeq<'_>,
    oid: &[u64],
    critical: bool,
    content: impl FnOnce(DERWriter<'_>),
) {
    w.next().write_sequence(|w| {
        w.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            w.next().write_bool(true);
        }
        w.next().write_bytes(&construct_der(content));
    });
}

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
