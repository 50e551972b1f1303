//! Certificates that a webhook's server is trusted by.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::Pem;

/// What is wrong with a bundle, as it stands in JSON, in upstream's words. One certificate among it is enough.
pub(super) fn fault(base64: &str) -> Option<String> {
    let bytes = STANDARD.decode(base64).unwrap_or_default();
    let mut first = None;
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(&bytes) {
        let Ok(block) = block else { break };
        blocks += 1;
        if block.label != "CERTIFICATE" {
            continue;
        }
        match parse_x509_certificate(&block.contents) {
            Ok(_) => return None,
            Err(_) => {
                first.get_or_insert("failed to parse certificate: x509: malformed certificate");
            }
        }
    }
    let why = match (first, blocks) {
        (Some(why), _) => why,
        (None, 0) => "unable to parse bytes as PEM block",
        (None, _) => "no valid certificate authority data seen",
    };
    Some(format!("unable to load root certificates: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_holds_a_certificate() {
        let fault = |pem: &str| fault(&STANDARD.encode(pem)).unwrap_or_default();
        assert!(fault("nothing").ends_with("unable to parse bytes as PEM block"));
        let key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        assert!(fault(key).ends_with("no valid certificate authority data seen"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(fault(broken).contains("failed to parse certificate"));
    }
}
