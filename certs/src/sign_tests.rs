//! What is signed here against what Go's `crypto/x509` signs by the rules of upstream's signer, byte for byte: the authority of
//! these files has an Ed25519 key, so that the same content has the same signature.
#![allow(clippy::unwrap_used)]

use super::*;

const NOW: i64 = 1_800_000_000;

fn authority() -> Authority {
    let key = KeyPair::from_pem(include_str!("testdata/ca.key")).unwrap();
    Authority::new(include_str!("testdata/ca.crt").to_owned(), key).unwrap()
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn usages(names: &str) -> Usages {
    Usages::parse(&names.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

fn signed(request: &str, names: &str, seconds: i64, serial: &str) -> String {
    let request = SigningRequest::from_pem(request.as_bytes()).unwrap();
    let serial = u128::from_str_radix(serial, 16).unwrap().to_be_bytes();
    authority().sign_with(&request, &usages(names), Duration::seconds(seconds), at(NOW), &serial).unwrap()
}

/// Organizations in several places and alphabets, a common name that another one follows, attributes and names that are dropped.
#[test]
fn everything_that_a_request_may_say() {
    let names = "server auth,signing,any,s/mime,email protection,decipher only,netscape sgc,ipsec user";
    let made = signed(include_str!("testdata/rich.csr"), names, 31_536_000, "00ff112233445566778899aabbccddee");
    assert_eq!(made, include_str!("testdata/rich.crt"));
}

#[test]
fn a_node_with_an_rsa_key_and_a_short_life() {
    let names = "digital signature,key encipherment,client auth";
    let made = signed(include_str!("testdata/rsa.csr"), names, 3_600, "f0000000000000000000000000000001");
    assert_eq!(made, include_str!("testdata/rsa.crt"));
}

#[test]
fn a_request_without_a_subject_until_the_end_of_the_authority() {
    let made = signed(include_str!("testdata/empty.csr"), "client auth", 315_360_000_000, "01");
    assert_eq!(made, include_str!("testdata/empty.crt"));
}

#[test]
fn another_alphabet_and_another_curve() {
    let names = "digital signature,client auth";
    let made = signed(include_str!("testdata/bmp.csr"), names, 40_000, "7f000000000000000000000000000001");
    assert_eq!(made, include_str!("testdata/bmp.crt"));
}

#[test]
fn an_authority_that_has_run_out_signs_nothing() {
    let (_, block) = parse_x509_pem(include_bytes!("testdata/ca.crt")).unwrap();
    let end = block.parse_x509().unwrap().validity().not_after.to_datetime();
    let hour = Duration::hours(1);
    assert!(matches!(Validity::new(end, hour, end), Err(SignError::Expired(_))));
    let last = Validity::new(end - Duration::seconds(1), hour, end).unwrap();
    assert_eq!(last.until, end);
    let long = Validity::new(at(NOW), Duration::days(365), end).unwrap();
    assert_eq!((long.from, long.until), (at(NOW) - BACKDATE, at(NOW) + Duration::days(365) - BACKDATE));
}

#[test]
fn a_usage_that_nobody_knows_is_named() {
    let said = Usages::parse(&["client auth".into(), "flying".into()]).unwrap_err();
    assert_eq!(said.to_string(), "unrecognized usage values: [\"flying\"]");
}
