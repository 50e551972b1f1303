//! What is asked to be certified: a request that is whole, and signed with the key that it names, so that nobody gets a certificate
//! for the key of somebody else.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

const LABEL: &str = "CERTIFICATE REQUEST";

/// Why a text in PEM is no request, in upstream's words where that is not the parser's matter.
pub(super) fn fault(pem: &[u8]) -> Option<String> {
    let Some((_, block)) = parse_x509_pem(pem).ok().filter(|(_, block)| block.label == LABEL) else {
        return Some(format!("PEM block type must be {LABEL}"));
    };
    let request = match X509CertificationRequest::from_der(&block.contents) {
        Ok(([], request)) => request,
        Ok(_) => return Some("asn1: syntax error: trailing data".into()),
        Err(_) => return Some("x509: malformed certificate request".into()),
    };
    let why = match request.verify_signature() {
        Ok(()) => return None,
        // Also of keys whose signatures nothing here can check: what is not proved is not certified.
        Err(X509Error::SignatureUnsupportedAlgorithm) => "x509: cannot verify signature: algorithm unimplemented",
        Err(_) => {
            let key = &request.certification_request_info.subject_pki.algorithm.algorithm;
            if *key == OID_KEY_TYPE_EC_PUBLIC_KEY {
                "x509: ECDSA verification failure"
            } else if *key == OID_PKCS1_RSAENCRYPTION {
                "crypto/rsa: verification error"
            } else {
                "x509: Ed25519 verification failure"
            }
        }
    };
    Some(why.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN {LABEL}-----\n{}\n-----END {LABEL}-----\n", STANDARD.encode(der))
    }

    fn said(pem: &str) -> String {
        fault(pem.as_bytes()).unwrap_or_default()
    }

    /// Once a line that begins a request was request enough.
    #[test]
    fn a_request_is_read() {
        let whole = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(said(&whole.pem().unwrap()), "");
        assert_eq!(said(&format!("what it is for\n{}", whole.pem().unwrap())), "");
        let no_pem = "PEM block type must be CERTIFICATE REQUEST";
        for text in
            ["", "x", "-----BEGIN CERTIFICATE REQUEST-----", &whole.pem().unwrap().replace(LABEL, "CERTIFICATE")]
        {
            assert_eq!(said(text), no_pem, "{text}");
        }
        let der = whole.der().as_ref();
        assert_eq!(said(&pem(b"nonsense")), "x509: malformed certificate request");
        assert_eq!(said(&pem(&der[..der.len() - 1])), "x509: malformed certificate request");
        assert_eq!(said(&pem(&[der, &[0]].concat())), "asn1: syntax error: trailing data");
    }

    /// Whoever had seen a public key could have asked for a certificate for it.
    #[test]
    fn a_request_for_the_key_of_somebody_else_is_refused() {
        let request = |key: &KeyPair| {
            let request = CertificateParams::default().serialize_request(key).unwrap();
            request.der().as_ref().to_vec()
        };
        let (own, others) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let replaced = |bytes: &[u8], from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            [&bytes[..at], to, &bytes[at + from.len()..]].concat()
        };
        let stolen = replaced(&request(&own), own.public_key_raw(), others.public_key_raw());
        assert_eq!(said(&pem(&stolen)), "x509: ECDSA verification failure");
        let ed = |_| KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let (own, others) = (ed(()), ed(()));
        assert_eq!(said(&pem(&request(&own))), "");
        let stolen = replaced(&request(&own), own.public_key_raw(), others.public_key_raw());
        assert_eq!(said(&pem(&stolen)), "x509: Ed25519 verification failure");
    }
}
