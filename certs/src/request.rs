//! What somebody asks to have certified: a PKCS #10 request, read as Go's `crypto/x509` reads it.
//!
//! Invariant: a request that was read from PEM is signed with the key that it names, so that nobody is certified for the key of
//! somebody else.

use std::net::{IpAddr, Ipv6Addr};

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::extensions::{GeneralName, ParsedExtension, SubjectAlternativeName};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

const LABEL: &str = "CERTIFICATE REQUEST";

/// Why a request cannot be certified, in upstream's words where clients see them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("PEM block type must be {LABEL}")]
    NoRequest,
    #[error("x509: malformed certificate request")]
    Malformed,
    #[error("x509: {0}")]
    Content(&'static str),
    #[error("unable to verify certificate request signature: {0}")]
    Signature(String),
}

/// A request whose signature is that of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    pub subject: Subject,
    pub dns_names: Vec<String>,
    pub email_addresses: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    /// The SubjectPublicKeyInfo in DER.
    pub(crate) public_key: Vec<u8>,
}

/// A name in those attributes that upstream carries over; all others are lost when a request is signed. Of each there may be
/// several values, and they are kept in order, but for common name and serial number, of which the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    pub country: Vec<String>,
    pub organization: Vec<String>,
    pub organizational_unit: Vec<String>,
    pub locality: Vec<String>,
    pub province: Vec<String>,
    pub street_address: Vec<String>,
    pub postal_code: Vec<String>,
    pub common_name: String,
    pub serial_number: String,
}

impl SigningRequest {
    /// For a public key, without any names; whose that is is not asked.
    pub fn new(public_key: Vec<u8>) -> Self {
        Self {
            subject: Subject::default(),
            dns_names: Vec::new(),
            email_addresses: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            public_key,
        }
    }

    /// Reads a request in PEM.
    ///
    /// # Errors
    /// When it is none, or is not signed with the key that it names.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RequestError> {
        let (_, block) = parse_x509_pem(pem).map_err(|_| RequestError::NoRequest)?;
        if block.label != LABEL {
            return Err(RequestError::NoRequest);
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(&block.contents) else {
            return Err(RequestError::Malformed);
        };
        request.verify_signature().map_err(|err| RequestError::Signature(err.to_string()))?;
        let info = &request.certification_request_info;
        let mut read = Self { subject: Subject::read(&info.subject)?, ..Self::new(info.subject_pki.raw.to_vec()) };
        if let Some(names) = alternative_names(&request)? {
            read.add_names(names)?;
        }
        Ok(read)
    }

    fn add_names(&mut self, names: &SubjectAlternativeName<'_>) -> Result<(), RequestError> {
        for name in &names.general_names {
            match name {
                GeneralName::RFC822Name(name) => self.email_addresses.push(ascii(name, "SAN rfc822Name is malformed")?),
                GeneralName::DNSName(name) => self.dns_names.push(ascii(name, "SAN dNSName is malformed")?),
                GeneralName::URI(name) => {
                    self.uris.push(ascii(name, "SAN uniformResourceIdentifier is malformed")?);
                }
                GeneralName::IPAddress(bytes) => self.ip_addresses.push(address(bytes)?),
                // Upstream drops the other kinds, but those that it cannot read at all.
                GeneralName::Invalid(..) => return Err(RequestError::Content("invalid subject alternative names")),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The names that are asked for beside the subject, at most once.
fn alternative_names<'a>(
    request: &'a X509CertificationRequest<'_>,
) -> Result<Option<&'a SubjectAlternativeName<'a>>, RequestError> {
    let mut found = None;
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
        for extension in requested.extensions.iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                return Err(RequestError::Content("invalid subject alternative names"));
            };
            if found.replace(names).is_some() {
                return Err(RequestError::Content("certificate request contains duplicate requested extensions"));
            }
        }
    }
    Ok(found)
}

fn ascii(text: &str, otherwise: &'static str) -> Result<String, RequestError> {
    if text.is_ascii() { Ok(text.to_owned()) } else { Err(RequestError::Content(otherwise)) }
}

fn address(bytes: &[u8]) -> Result<IpAddr, RequestError> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ok(four.into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).map_err(|_| RequestError::Content("cannot parse IP address"))?;
    Ok(Ipv6Addr::from(sixteen).to_canonical())
}

impl Subject {
    fn read(name: &X509Name<'_>) -> Result<Self, RequestError> {
        let mut subject = Self::default();
        for attribute in name.iter_attributes() {
            let Some(value) = text(attribute.attr_value())? else { continue };
            let Some(number) = attribute.attr_type().iter().and_then(|mut arcs| {
                // All of them are `2.5.4.N`.
                let first: Vec<u64> = arcs.by_ref().take(3).collect();
                let number = arcs.next().filter(|_| first == [2, 5, 4]);
                number.filter(|_| arcs.next().is_none())
            }) else {
                continue;
            };
            match number {
                3 => subject.common_name = value,
                5 => subject.serial_number = value,
                6 => subject.country.push(value),
                7 => subject.locality.push(value),
                8 => subject.province.push(value),
                9 => subject.street_address.push(value),
                10 => subject.organization.push(value),
                11 => subject.organizational_unit.push(value),
                17 => subject.postal_code.push(value),
                _ => {}
            }
        }
        Ok(subject)
    }

    /// The attributes that there are, in the order in which upstream writes them, by the number after `2.5.4`.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (u64, &[String])> {
        let all: [(u64, &[String]); 9] = [
            (6, &self.country),
            (8, &self.province),
            (7, &self.locality),
            (9, &self.street_address),
            (17, &self.postal_code),
            (10, &self.organization),
            (11, &self.organizational_unit),
            (3, at_most_one(&self.common_name)),
            (5, at_most_one(&self.serial_number)),
        ];
        all.into_iter().filter(|(_, values)| !values.is_empty())
    }
}

fn at_most_one(value: &String) -> &[String] {
    if value.is_empty() { &[] } else { std::slice::from_ref(value) }
}

/// A text in any of the alphabets that Go reads; none for what it leaves out.
fn text(value: &Any<'_>) -> Result<Option<String>, RequestError> {
    let wrong = || RequestError::Content("invalid text in the subject");
    let bytes = value.data;
    let only = |allowed: fn(&u8) -> bool| {
        let fits = bytes.iter().all(allowed);
        fits.then(|| bytes.iter().map(|b| char::from(*b)).collect()).ok_or_else(wrong)
    };
    Ok(Some(match value.tag() {
        Tag::PrintableString => only(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(b))?,
        Tag::NumericString => only(|b| b.is_ascii_digit() || *b == b' ')?,
        Tag::Ia5String => only(u8::is_ascii)?,
        // Read as Latin 1, which is nearly what it is.
        Tag::T61String => only(|_| true)?,
        Tag::Utf8String => std::str::from_utf8(bytes).map_err(|_| wrong())?.to_owned(),
        Tag::BmpString => {
            let (pairs, []) = bytes.as_chunks::<2>() else { return Err(wrong()) };
            let pairs = pairs.strip_suffix(&[[0, 0]]).unwrap_or(pairs);
            // Neither halves of characters nor what is reserved for no character.
            let unit = |pair: &[u8; 2]| match u16::from_be_bytes(*pair) {
                0xfffe | 0xffff | 0xfdd0..=0xfdef => None,
                unit => char::from_u32(unit.into()),
            };
            pairs.iter().map(unit).collect::<Option<String>>().ok_or_else(wrong)?
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::string::BmpString;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn pem(params: &CertificateParams, key: &KeyPair) -> String {
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn subject_and_names_are_read() {
        let mut params = CertificateParams::new(vec!["a.example".into(), "10.0.0.1".into(), "fd00::1".into()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("x@y".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        let other_alphabet = DnValue::BmpString(BmpString::try_from("system:nodes").unwrap());
        params.distinguished_name.push(DnType::OrganizationName, other_alphabet);
        params.distinguished_name.push(DnType::CommonName, "system:node:a");
        let key = KeyPair::generate().unwrap();
        let request = SigningRequest::from_pem(pem(&params, &key).as_bytes()).unwrap();
        assert_eq!(request.subject.organization, ["system:nodes"]);
        assert_eq!(request.subject.common_name, "system:node:a");
        assert_eq!(request.dns_names, ["a.example"]);
        assert_eq!(request.ip_addresses, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!((&*request.uris, &*request.email_addresses), (&["spiffe://a/b".into()][..], &["x@y".into()][..]));
    }

    #[test]
    fn a_request_for_the_key_of_somebody_else_is_none() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let request = CertificateParams::default().serialize_request(&own).unwrap();
        let (theirs, mine) = (other.public_key_raw(), own.public_key_raw());
        let der = request.der().as_ref();
        let at = der.windows(mine.len()).position(|window| window == mine).unwrap();
        let stolen = [&der[..at], theirs, &der[at + mine.len()..]].concat();
        let pem = format!("-----BEGIN {LABEL}-----\n{}\n-----END {LABEL}-----\n", {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(stolen)
        });
        assert!(matches!(SigningRequest::from_pem(pem.as_bytes()), Err(RequestError::Signature(_))));
        assert_eq!(SigningRequest::from_pem(b"nothing"), Err(RequestError::NoRequest));
    }
}
