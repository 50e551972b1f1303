//! TLS: who has a certificate of the right authority is let in, nobody else.

use std::path::Path;
use std::sync::Arc;

use kedge_etcdapi::ServingTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::served::{Served, with_tools};

fn authority(dir: &Path, name: &str, leaves: &[&str]) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join(format!("{name}.crt")), ca.pem()).unwrap();
    for leaf in leaves {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), (*leaf).to_owned()]).unwrap();
        std::fs::write(dir.join(format!("{leaf}.crt")), params.signed_by(&key, &ca).unwrap().pem()).unwrap();
        std::fs::write(dir.join(format!("{leaf}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn only_the_right_certificate_is_let_in() {
    with_tools(async {
        let dir = tempfile::tempdir().unwrap();
        authority(dir.path(), "ca", &["server", "client"]);
        authority(dir.path(), "other", &["stranger"]);
        let path = |name: &str| dir.path().join(name);
        let text = |name: &str| path(name).display().to_string();
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        let leaf = kedge_certs::Leaf { certificate: read("server.crt"), key: read("server.key") };
        let certificate = Arc::new(kedge_certs::Credential::new(&leaf).unwrap());
        let files = ServingTls { certificate, client_ca: path("ca.crt") };
        let (ca, cert, key) = (text("ca.crt"), text("client.crt"), text("client.key"));
        let (strange_cert, strange_key) = (text("stranger.crt"), text("stranger.key"));
        let s = Served::start(tempfile::tempdir().unwrap(), "https://127.0.0.1:0", Some(&files)).await;
        let with = ["--cacert", &ca, "--cert", &cert, "--key", &key];
        assert_eq!(s.etcdctl(&[&with[..], &["put", "/a", "1"]].concat()), "OK\n");
        assert_eq!(s.etcdctl(&[&with[..], &["get", "/a"]].concat()), "/a\n1\n");
        let short = ["--command-timeout=2s", "--dial-timeout=2s"];
        s.refused(&[&["--cacert", &ca][..], &short, &["get", "/a"]].concat());
        let strange = ["--cacert", &ca, "--cert", &strange_cert, "--key", &strange_key];
        s.refused(&[&strange[..], &short, &["get", "/a"]].concat());
        s.stop().await;
    });
}
