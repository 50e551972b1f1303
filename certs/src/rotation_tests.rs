//! Authorities that follow each other, and some that do not.
#![allow(clippy::unwrap_used)]

use time::Duration;

use super::*;
use crate::{LeafRequest, Pki, Usage, shared};

fn at(days: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() + Duration::days(days)
}

/// Those of a server that was just started.
fn first(dir: &Path) -> Files {
    Pki::open(dir, at(0)).unwrap();
    shared::kept(dir).unwrap()
}

/// The new authorities in the place of the old ones, at the next start.
fn restarted(dir: &Path, days: i64) -> Pki {
    let there = shared::kept(dir).unwrap();
    let new = made(&there, at(days)).unwrap();
    let then = checked(&there, &new, false, at(days)).unwrap();
    shared::leave(dir, &shared::replacing(&there, then)).unwrap();
    assert!(shared::take_waiting(dir, at(days)).unwrap() && !shared::take_waiting(dir, at(days)).unwrap());
    Pki::open(dir, at(days)).unwrap()
}

/// Whether a chain as it is shown leads to what a bundle trusts, as TLS sees it.
fn believed(chain: &str, trusted: &str, days: i64) -> bool {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, UnixTime};
    let all = |text: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect()
    };
    let mut roots = rustls::RootCertStore::empty();
    all(trusted).into_iter().for_each(|one| roots.add(one).unwrap());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let (chain, seconds) = (all(chain), at(days).unix_timestamp().unsigned_abs());
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    rustls::server::danger::ClientCertVerifier::verify_client_cert(&*verifier, &chain[0], &chain[1..], now).is_ok()
}

#[test]
fn who_trusts_one_of_two_that_follow_each_other_believes_both() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("tls");
    let old = first(&dir);
    let request = LeafRequest { common_name: "u".into(), organization: None, names: vec![], usage: Usage::Client };
    let leaf = |pki: &Pki, file: &str, days| pki.leaf(file, &pki.client_ca, request.clone()).ensure(at(days)).unwrap();
    let by_old = leaf(&Pki::open(&dir, at(0)).unwrap(), "u", 0);
    let pki = restarted(&dir, 1);
    let by_new = leaf(&pki, "u", 1);
    assert_ne!(by_old.certificate, by_new.certificate, "issued anew");
    let trusted = &old["client-ca.crt"];
    let now = &pki.client_ca.certificate;
    for (chain, trusted) in [(&by_old, trusted), (&by_old, now), (&by_new, trusted), (&by_new, now)] {
        assert!(believed(&chain.certificate, trusted, 2));
    }
    assert!(!believed(&by_new.certificate, &old["server-ca.crt"], 2));
    assert!(pki.knows_server_ca(&crate::digest(&old["server-ca.crt"])));
    assert!(pki.service_account_key.ends_with(&old["service.key"]));
    // After the next one, what was trusted first is trusted no more, also when that has seen the one between.
    let second = restarted(&dir, 3);
    let by_second = leaf(&second, "u", 3);
    assert!(
        believed(&by_second.certificate, now, 4) && believed(&by_new.certificate, &second.client_ca.certificate, 4)
    );
    assert!(!believed(&by_old.certificate, &second.client_ca.certificate, 4));
    let files: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "two copies beside it, and nothing that waits: {files:?}");
}

#[test]
fn others_take_no_place() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (there, strange) = (first(one.path()), first(two.path()));
    let of =
        |names: &[&str]| -> Files { names.iter().map(|name| ((*name).to_owned(), strange[*name].clone())).collect() };
    let refused = |given: &Files, forced: bool, days| checked(&there, given, forced, at(days)).unwrap_err().to_string();
    let both = of(&["server-ca.crt", "server-ca.key"]);
    assert!(refused(&both, false, 0).contains("only a single certificate"));
    let mut bundle = both.clone();
    let twice = format!("{}{}", both["server-ca.crt"], there["client-ca.crt"]);
    bundle.insert("server-ca.crt".into(), twice);
    assert!(refused(&bundle, false, 0).contains("cannot be verified using old CA chain"));
    assert_eq!(checked(&there, &both, true, at(0)).unwrap()["server-ca.crt"], strange["server-ca.crt"], "by force");
    let half = of(&["server-ca.crt"]);
    assert!(refused(&half, true, 0).contains("private key does not match"), "no server could start with that");
    assert!(refused(&both, true, 9_000).contains("is not valid now"));
    assert!(refused(&of(&["service.key"]), false, 0).contains("old ServiceAccount signing key not in new"));
    checked(&there, &of(&["service.key"]), true, at(0)).unwrap();
    assert!(refused(&Files::new(), false, 0).contains("those that there are already"));
    for (name, content, said) in [
        ("replaced", "", "none of the files"),
        ("../x.crt", "", "none of the files"),
        ("server-ca.crt", "", "it has no certificate"),
        ("server-ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "server-ca.crt"),
        ("server-ca.key", "x", "no private key in PKCS#8"),
        ("service.key", "", "there is none"),
    ] {
        let given = Files::from([(name.to_owned(), content.to_owned())]);
        assert!(refused(&given, true, 0).contains(said), "{name}: {}", refused(&given, true, 0));
    }
    let many = Files::from([("server-ca.crt".to_owned(), there["server-ca.crt"].repeat(MOST + 1))]);
    assert!(refused(&many, true, 0).contains("more than"));
}

/// A power cut after some of the files leaves what the next start completes.
#[test]
fn a_start_that_was_cut_off_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("tls");
    let there = first(&dir);
    let then = checked(&there, &made(&there, at(1)).unwrap(), false, at(1)).unwrap();
    shared::leave(&dir, &shared::replacing(&there, then.clone())).unwrap();
    assert!(shared::is_waiting(&dir));
    assert!(shared::leave(&dir, &then).is_err(), "one waits already");
    std::fs::write(dir.join("server-ca.crt"), &then["server-ca.crt"]).unwrap();
    assert!(shared::take_waiting(&dir, at(1)).unwrap() && !shared::is_waiting(&dir));
    let mut kept = shared::kept(&dir).unwrap();
    assert!(kept.remove("replaced").is_some());
    assert_eq!(kept, then);
}
