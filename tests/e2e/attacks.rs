//! Attacks that are known from others, tried on a whole server and a whole node.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kedge_certs::Pki;
use kedge_webhook::AnyCertificate;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::support::TestCluster;
use crate::support::etcd::Etcd;
use crate::support::http::Http;

/// Rather a failure than a test that hangs.
const HANGS: Duration = Duration::from_secs(10);

/// The certificate that is shown to whoever asks for a name, in TLS and in HTTP.
fn shown(port: u16, host: &str) -> CertificateDer<'static> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(HANGS)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, tcp);
    stream.write_all(format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200", "{host}");
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

/// All files below a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

/// CVE-2023-32187: in k3s every name that a client asked for became one of the serving certificate, which was issued, stored and sent anew.
#[test]
fn names_that_clients_ask_for_change_no_certificate() {
    let cluster = TestCluster::control_plane();
    let tls = cluster.data_dir().join("server/tls");
    let (before, first) = (files(&tls), shown(cluster.port(), "localhost"));
    for i in 0..200 {
        assert_eq!(shown(cluster.port(), &format!("name-{i}.example.com")), first);
    }
    assert_eq!(shown(cluster.port(), "192.0.2.7"), first);
    assert_eq!(files(&tls), before);
}

/// CVE-2022-3294, and what it is an instance of: a node says itself where its kubelet is. With the address of the API server, or of another node,
/// requests of those who may use that node's proxy would be answered there, with the API server's rights.
#[test]
fn a_node_does_not_lead_requests_to_the_api_server_itself() {
    let cluster = TestCluster::control_plane();
    let address = cluster.ok(&["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[0].addresses[0].ip}"]);
    for host in [address.as_str(), "127.0.0.1"] {
        let name = format!("evil-{}", host.replace('.', "-"));
        let status = format!(
            r#"{{"status": {{"addresses": [{{"type": "InternalIP", "address": "{host}"}}],
                "daemonEndpoints": {{"kubeletEndpoint": {{"Port": {}}}}}}}}}"#,
            cluster.port()
        );
        cluster.apply(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"));
        cluster.ok(&["patch", "node", &name, "--subresource=status", "--type=merge", "-p", &status]);
        for id in [name.clone(), format!("{name}:{}", cluster.port()), format!("https:{name}:{}", cluster.port())] {
            let said = cluster.fails(&["get", "--raw", &format!("/api/v1/nodes/{id}/proxy/api/v1/secrets")]);
            let why = match host {
                "127.0.0.1" => "address not allowed".to_owned(),
                _ => format!("the certificate is that of \\\"kube-apiserver\\\", not of \\\"system:node:{name}\\\""),
            };
            assert!(said.contains(&why) || said.contains(&why.replace('\\', "")), "{id}: {said}");
        }
    }
}

/// GHSA-cxm9-4m6p-24mc (CVE-2021-32001): k3s encrypted what servers share in the datastore with a key of nothing when nobody had given a token, so
/// that a copy of the datastore was as good as the authorities of the cluster.
#[test]
fn who_has_the_store_has_no_authority_of_the_cluster() {
    let etcd = Etcd::one();
    // Nobody gives a token.
    let shared = TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints(), "--secrets-encryption"]);
    let alone = TestCluster::control_plane();
    let saved = alone.kedge(&["etcd-snapshot", "save", "--name", "copy"]);
    let snapshot = std::fs::read(saved.split_whitespace().last().unwrap()).unwrap();
    let all = etcd.etcdctl(&["get", "", "--from-key"]);
    assert!(all.contains("/kedge/identity"), "what servers share is there");
    for (cluster, store) in [(&shared, all.into_bytes()), (&alone, snapshot)] {
        let server = cluster.data_dir().join("server");
        let mut secrets: Vec<String> = Vec::new();
        for (path, content) in files(&server.join("tls")) {
            let text = String::from_utf8_lossy(&content).into_owned();
            // The first line of what is between the marks, which is the form that it would have anywhere.
            let line = text.lines().skip_while(|line| !line.contains("PRIVATE KEY")).nth(1);
            secrets.extend(line.filter(|_| path.ends_with(".key")).map(str::to_owned));
        }
        assert!(secrets.len() > 5, "{secrets:?}");
        let token = std::fs::read_to_string(server.join("token")).unwrap();
        secrets.push(token.trim().rsplit(':').next().unwrap().to_owned());
        for secret in &secrets {
            assert!(secret.len() >= 16, "{secret}");
            let there = store.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!there, "{secret} is in the store");
        }
    }
    // Without the token, or with another, that is of no use.
    for given in [&["--token", "other"][..], &[]] {
        let said = TestCluster::refused(
            &[&["--disable-agent", "--datastore-endpoint", &etcd.endpoints()][..], given].concat(),
        );
        assert!(said.contains("token"), "{said}");
    }
}

/// The TCP ports that a process listens on.
fn ports(pid: u32) -> BTreeSet<u16> {
    let own: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = fields.filter(|fields| fields[3] == "0A" && own.contains(fields[9]));
    listening.map(|fields| u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).unwrap()).collect()
}

/// What a port says to a request without TLS.
fn plain(address: SocketAddr, request: &str) -> String {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, HANGS) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let _ = stream.write_all(format!("{request} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
    let mut answer = Vec::new();
    // What it does not understand it may leave open, or close.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// CVE-2025-0426: anybody could have the kubelet write checkpoints of containers, through a port that asked nobody who they were, until the disk was
/// full.
#[test]
fn nobody_has_a_kubelet_do_anything_without_saying_who_they_are() {
    const PATHS: [&str; 6] = [
        "POST /checkpoint/default/p/c",
        "GET /pods",
        "POST /exec/default/p/c?command=x",
        "GET /stats/summary",
        "GET /metrics",
        "GET /healthz",
    ];
    let cluster = TestCluster::node();
    let kubelet = cluster.ok(&["get", "node", "n1", "-o", "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}"]);
    let kubelet: u16 = kubelet.parse().unwrap();
    let ports = ports(cluster.pid());
    assert!(ports.contains(&kubelet) && ports.contains(&cluster.port()), "{ports:?}");
    let address =
        cluster.ok(&["get", "node", "n1", "-o", "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}"]);
    for port in &ports {
        for host in ["127.0.0.1", &address] {
            for path in PATHS {
                let said = plain(format!("{host}:{port}").parse().unwrap(), path);
                assert!(!said.starts_with("HTTP/1.1 2"), "{host}:{port} {path}: {said}");
            }
        }
    }
    // With TLS: nobody, somebody without rights, and who may do everything, which does not make the kubelet able to do it.
    let pki = Pki::open(&cluster.data_dir().join("server/tls"), time::OffsetDateTime::now_utc()).unwrap();
    let jane = pki.client("test-jane", "jane", None, time::OffsetDateTime::now_utc()).unwrap();
    let files = [cluster.file("jane.crt", &jane.certificate), cluster.file("jane.key", &jane.key)];
    let [certificate, key] = files.each_ref().map(|file| file.to_str().unwrap());
    let http = Http::of(&cluster);
    let before = kubelet_files(&cluster);
    for path in PATHS {
        let (method, path) = path.split_once(' ').unwrap();
        let to = format!("127.0.0.1:{}:127.0.0.1:{kubelet}", cluster.port());
        let arguments = ["-X", method, "--connect-to", &to];
        assert_eq!(http.ask_as_nobody("--http1.1", path, &arguments).code, 401, "{path}");
        let as_jane = [&arguments[..], &["--cert", certificate, "--key", key]].concat();
        assert_eq!(http.ask_as_nobody("--http1.1", path, &as_jane).code, 403, "{path}");
        if path.starts_with("/checkpoint") {
            assert_eq!(http.ask("--http1.1", path, &arguments).code, 404, "it makes none");
        }
    }
    assert_eq!(kubelet_files(&cluster), before, "nothing was written");
}

/// The files of the kubelet by name.
fn kubelet_files(cluster: &TestCluster) -> Vec<String> {
    files(&cluster.data_dir().join("agent/kubelet")).into_keys().collect()
}
