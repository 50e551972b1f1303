//! Certificates, and what is said of them.
#![allow(clippy::unwrap_used)]

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use time::{Duration, OffsetDateTime};

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(offset: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap() + Duration::days(offset)
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    (params.not_before, params.not_after) = (at(-1), at(1));
    params
}

fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "ca");
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
}

fn leaf(params: &CertificateParams, issuer: &Issuer<'static, KeyPair>) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

fn judged(roots: &[&CertificateDer<'static>], leaf: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = Trust::new(roots.iter().map(|root| (*root).clone()).collect(), provider);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.unsigned_abs()));
    let judged = trust.verify_server_cert(leaf, &[], &name, &[], now);
    judged.map(|_| ()).map_err(|err| crate::tls::words(&std::io::Error::other(err)).to_string())
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_in_gos_words() {
    let (root, issuer) = authority();
    let good = leaf(&params(&["s.a.svc", "127.0.0.1"]), &issuer);
    assert_eq!(judged(&[&root], &good, "s.a.svc"), Ok(()));
    assert_eq!(judged(&[&root], &good, "127.0.0.1"), Ok(()));
    let failed = |why: &str| Err(format!("tls: failed to verify certificate: x509: {why}"));
    let (other, _) = authority();
    assert_eq!(judged(&[&other], &good, "s.a.svc"), failed("certificate signed by unknown authority"));
    assert_eq!(judged(&[], &good, "s.a.svc"), failed("certificate signed by unknown authority"));
    assert_eq!(judged(&[&root], &good, "s.b.svc"), failed("certificate is valid for s.a.svc, not s.b.svc"));
    assert_eq!(judged(&[&root], &good, "10.0.0.1"), failed("certificate is valid for 127.0.0.1, not 10.0.0.1"));
    let nameless = leaf(&params(&["s.a.svc"]), &issuer);
    let why = "cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs";
    assert_eq!(judged(&[&root], &nameless, "10.0.0.1"), failed(why));
    let mut legacy = params(&[]);
    legacy.distinguished_name.push(rcgen::DnType::CommonName, "s.a.svc");
    let why = "certificate relies on legacy Common Name field, use SANs instead";
    assert_eq!(judged(&[&root], &leaf(&legacy, &issuer), "s.a.svc"), failed(why));
    let mut old = params(&["s.a.svc"]);
    old.not_after = at(0) - Duration::seconds(1);
    let why =
        "certificate has expired or is not yet valid: current time 2027-01-15T08:00:00Z is after 2027-01-15T07:59:59Z";
    assert_eq!(judged(&[&root], &leaf(&old, &issuer), "s.a.svc"), failed(why));
    let mut client = params(&["s.a.svc"]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let why = "certificate specifies an incompatible key usage";
    assert_eq!(judged(&[&root], &leaf(&client, &issuer), "s.a.svc"), failed(why));
}

/// Many webhooks certify themselves, and give that certificate as their bundle.
#[test]
fn who_is_in_the_bundle_is_trusted_authority_or_not() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let mut own = params(&["s.a.svc"]);
        own.is_ca = is_ca;
        let own = own.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        assert_eq!(judged(&[&own], &own, "s.a.svc"), Ok(()));
        let why = "tls: failed to verify certificate: x509: certificate is valid for s.a.svc, not x";
        assert_eq!(judged(&[&own], &own, "x"), Err(why.to_owned()));
        let (other, _) = authority();
        let why = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
        assert_eq!(judged(&[&other], &own, "s.a.svc"), Err(why.to_owned()));
    }
}

#[test]
fn bundles_without_a_certificate_are_refused() {
    let said = |pem: &str| bundle(pem.as_bytes()).unwrap_err().to_string();
    let nothing = "unable to load root certificates: unable to parse bytes as PEM block";
    assert_eq!((said(""), said("nonsense")), (nothing.to_owned(), nothing.to_owned()));
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(said(bad).starts_with("unable to load root certificates: failed to parse certificate: "));
    let (root, _) = authority();
    let good = x509_pem(&root);
    assert_eq!(bundle(format!("{bad}{good}").as_bytes()).unwrap(), [root]);
}

fn x509_pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
