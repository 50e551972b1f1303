//! The `proxy` subresources, with a web server behind them.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use kedge_meta::UserInfo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::proxy_backend::{Network, connect};
use crate::support::{Cluster, JSON, MERGE, NAMESPACE};

fn path(rest: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{rest}")
}

/// A pod that runs, as its kubelet says.
async fn pod(cluster: &Cluster, name: &str, ip: &str, ports: Value) {
    let containers = json!([{"name": "c", "image": "i", "ports": ports}]);
    let spec = json!({"nodeName": "n", "containers": containers});
    cluster.ok(&path("pods"), json!({"metadata": {"name": name}, "spec": spec})).await;
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    let (code, said) = cluster.patch(&path(&format!("pods/{name}/status")), MERGE, &status).await;
    assert_eq!(code, StatusCode::OK, "{said}");
}

async fn seen(cluster: &Cluster, place: &str) -> (u16, Value) {
    let (code, value) = cluster.ask(Method::GET, &path(place), JSON, "").await;
    (code.as_u16(), value)
}

/// A request as it goes over the wire, and all that comes back until the server closes.
async fn exchange(cluster: &Cluster, request: &str) -> String {
    let mut client = connect(cluster);
    client.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn upgrade(cluster: &Cluster, place: &str) -> (DuplexStream, String) {
    let mut client = connect(cluster);
    let head = format!("GET {} HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: anything\r\n\r\n", path(place));
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    (client, String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn a_pod_is_reached_at_its_first_port_or_the_one_that_is_asked_for() {
    let cluster = Network::default().cluster().await;
    let ports = json!([{"containerPort": 8080}, {"containerPort": 9090, "name": "metrics"}]);
    pod(&cluster, "web", "10.0.0.1", ports).await;
    pod(&cluster, "bare", "10.0.0.2", json!([])).await;
    for (id, at) in [
        ("web", "10.0.0.1:8080"),
        ("web:81", "10.0.0.1:81"),
        ("web:metrics", "10.0.0.1:9090"),
        ("http:web:81", "10.0.0.1:81"),
        (":web:", "10.0.0.1:8080"),
        ("bare", "10.0.0.2:80"),
        ("bare:http", "10.0.0.2:80"),
    ] {
        let (code, said) = seen(&cluster, &format!("pods/{id}/proxy/x")).await;
        assert_eq!((code, said["at"].as_str(), said["path"].as_str()), (200, Some(at), Some("/x")), "{id}: {said}");
    }
    for (id, code, reason, message) in [
        ("none", 404, "NotFound", "pods \"none\" not found"),
        ("ftp:web:80", 400, "BadRequest", "invalid pod request \"ftp:web:80\""),
        ("web:x", 503, "ServiceUnavailable", "error trying to reach service: dial tcp: lookup tcp/x: unknown port"),
        (
            "web:70000",
            503,
            "ServiceUnavailable",
            "error trying to reach service: dial tcp: address 70000: invalid port",
        ),
    ] {
        let (got, said) = seen(&cluster, &format!("pods/{id}/proxy/x")).await;
        assert_eq!((got, said["reason"].as_str(), said["message"].as_str()), (code, Some(reason), Some(message)));
    }
}

#[tokio::test]
async fn pods_that_cannot_be_reached_are_an_error_that_says_why() {
    let cluster = Network::default().cluster().await;
    pod(&cluster, "gone", "10.9.9.9", json!([])).await;
    pod(&cluster, "self", "127.0.0.1", json!([])).await;
    let (code, said) = seen(&cluster, "pods/gone/proxy/x").await;
    let message = "error trying to reach service: dial tcp 10.9.9.9:80: connect: connection refused";
    assert_eq!(
        (code, said["reason"].as_str(), said["message"].as_str()),
        (503, Some("ServiceUnavailable"), Some(message))
    );
    let (code, said) = seen(&cluster, "pods/self/proxy/x").await;
    assert_eq!((code, said["message"].as_str()), (400, Some("address not allowed")));
    let (code, said) = seen(&cluster, "pods/gone/proxy/x?dryRun=All").await;
    assert_eq!((code, said["message"].as_str()), (400, Some("dryRun is not supported")));
}

#[tokio::test]
async fn a_service_is_any_of_its_ready_pods() {
    let cluster = Network::default().cluster().await;
    for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        pod(&cluster, name, ip, json!([])).await;
    }
    let ports = json!([{"name": "web", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81}]);
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": ports, "clusterIP": "None"}});
    cluster.ok(&path("services"), service).await;
    let (code, said) = seen(&cluster, "services/s:web/proxy/x").await;
    assert_eq!((code, said["message"].as_str()), (404, Some("endpoints \"s\" not found")));
    let address =
        |ip: &str, pod: &str| json!({"ip": ip, "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod}});
    // The last two are no pods of this namespace: whoever may write endpoints must not reach hosts by them.
    let addresses =
        json!([address("10.0.0.1", "a"), address("10.0.0.2", "b"), address("10.0.0.3", "a"), {"ip": "10.0.0.4"}]);
    let subset = json!({"addresses": addresses, "ports": [{"name": "web", "port": 8080}]});
    cluster.ok(&path("endpoints"), json!({"metadata": {"name": "s"}, "subsets": [subset]})).await;
    let mut reached = BTreeSet::new();
    for _ in 0..100 {
        let (code, said) = seen(&cluster, "services/http:s:80/proxy/x").await;
        assert_eq!(code, 200, "{said}");
        reached.insert(said["at"].as_str().unwrap().to_owned());
    }
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    for (id, message) in [
        ("s", "no endpoints available for service \"s\""),
        ("s:admin", "no endpoints available for service \"s:admin\""),
        ("s:82", "no service port 82 found for service \"s\""),
    ] {
        let (code, said) = seen(&cluster, &format!("services/{id}/proxy/x")).await;
        assert_eq!((code, said["message"].as_str()), (503, Some(message)));
    }
}

#[tokio::test]
async fn path_query_and_method_arrive_byte_for_byte() {
    let cluster = Network::default().cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    for rest in ["/", "/a//b/../%2Fc%20d/%FF?limit=x&watch=1&a+b=%2f&&", "/?", "/?timeoutSeconds=y&path=/z"] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let method: Method = method.parse().unwrap();
            let (code, said) = cluster.ask(method.clone(), &path(&format!("pods/web/proxy{rest}")), JSON, "").await;
            let got = (code, said["method"].as_str(), said["path"].as_str());
            assert_eq!(got, (StatusCode::OK, Some(method.as_str()), Some(rest)), "{said}");
        }
    }
    // Without a slash a page is asked for again, with one; what is sent is not.
    let request = format!("GET {}?a=b HTTP/1.1\nhost: h\nconnection: close\n\n", path("pods/web/proxy"));
    let answer = exchange(&cluster, &request).await;
    assert!(answer.starts_with("HTTP/1.1 301"), "{answer}");
    assert!(answer.contains(&format!("location: {}/?a=b\r\n", path("pods/web/proxy"))), "{answer}");
    let (code, said) = cluster.ask(Method::POST, &path("pods/web/proxy"), JSON, "").await;
    assert_eq!((code, said["path"].as_str()), (StatusCode::OK, Some("/")));
    let (code, _) = cluster.ask(Method::TRACE, &path("pods/web/proxy/"), JSON, "").await;
    assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED);
    // A slash that only looks like one after decoding is part of a name.
    let (code, _) = cluster.ask(Method::GET, "/api/v1/namespaces%2Ftest/pods/web/proxy/x", JSON, "").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn headers_of_the_connection_and_of_the_identity_stay_here() {
    let cluster = Network::default().cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let request = format!(
        "GET {} HTTP/1.1\nhost: api.example:6443\nconnection: close, x-mine\nx-mine: 1\nte: trailers\nauthorization: Bearer t\nimpersonate-user: admin\nimpersonate-group: system:masters\nx-remote-user: u\nx-remote-extra-scopes: s\nx-forwarded-for: 198.51.100.7\nx-other: 2\n\n",
        path("pods/web/proxy/a/")
    );
    let answer = exchange(&cluster, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let said: Value = serde_json::from_str(body).unwrap();
    let mut headers: Vec<(&str, &str)> = Vec::new();
    for pair in said["headers"].as_array().unwrap_or_else(|| panic!("{said}")) {
        headers.push((pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    }
    headers.sort_unstable();
    let expected = [
        ("host", "api.example:6443"),
        ("te", "trailers"),
        ("x-forwarded-for", "198.51.100.7, 192.0.2.1"),
        ("x-forwarded-uri", &path("pods/web/proxy/a/")),
        ("x-other", "2"),
    ];
    assert_eq!(headers, expected);
    assert!(head.contains("x-end: 1") && !head.contains("x-hop") && !head.contains("access-control"), "{head}");
}

#[tokio::test]
async fn heads_tell_the_length_that_the_backend_tells() {
    let cluster = Network::default().cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let request = format!("HEAD {} HTTP/1.1\nhost: h\nconnection: close\n\n", path("pods/web/proxy/x"));
    let answer = exchange(&cluster, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-length: 1234\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

/// CVE-2022-3294: the address of a node was not looked at on the way to its kubelet's port.
#[tokio::test]
async fn a_node_is_reached_at_no_address_of_this_host_or_its_neighbours() {
    let network = Network::default();
    let cluster = network.cluster().await;
    for (name, host) in
        [("a", "127.0.0.1"), ("b", "169.254.169.254"), ("c", "::1"), ("d", "0.0.0.0"), ("e", "localhost")]
    {
        cluster.ok("/api/v1/nodes", json!({"metadata": {"name": name}})).await;
        let addresses = json!([{"type": if name == "e" { "Hostname" } else { "InternalIP" }, "address": host}]);
        let ports = json!({"kubeletEndpoint": {"Port": 10250}});
        let status = json!({"status": {"addresses": addresses, "daemonEndpoints": ports}});
        let (code, said) = cluster.patch(&format!("/api/v1/nodes/{name}/status"), MERGE, &status).await;
        assert_eq!(code, StatusCode::OK, "{said}");
        for id in [name.to_owned(), format!("{name}:10250"), format!("https:{name}:10250"), format!("{name}:6443")] {
            let (code, said) = cluster.ask(Method::GET, &format!("/api/v1/nodes/{id}/proxy/x"), JSON, "").await;
            assert_eq!((code.as_u16(), said["message"].as_str()), (400, Some("address not allowed")), "{host} {id}");
        }
    }
    assert!(network.dialled().is_empty());
}

/// CVE-2018-1002102 and CVE-2020-8559: whoever is behind a proxy had the API server ask others in its place, or the client send there what was
/// for the API server.
#[tokio::test]
async fn nobody_is_followed_to_where_a_backend_sends() {
    let network = Network::default();
    let cluster = network.cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let request = format!("GET {} HTTP/1.1\nhost: h\nconnection: close\n\n", path("pods/web/proxy/elsewhere"));
    let answer = exchange(&cluster, &request).await;
    assert!(answer.starts_with("HTTP/1.1 307"), "{answer}");
    assert!(answer.contains("location: http://10.0.0.9/secret\r\n"), "the client's own affair: {answer}");
    for place in ["moved", "elsewhere"] {
        let (_, answer) = upgrade(&cluster, &format!("pods/web/proxy/{place}")).await;
        assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("location"), "{answer}");
    }
    assert_eq!(network.dialled(), ["10.0.0.1:80"], "nobody else was asked");
}

#[tokio::test]
async fn links_lead_through_the_proxy() {
    let cluster = Network::default().cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let get = |rest: &str| {
        format!("GET {} HTTP/1.1\nhost: h\nconnection: close\n\n", path(&format!("pods/web/proxy/{rest}")))
    };
    let moved = exchange(&cluster, &get("moved")).await;
    assert!(moved.contains(&format!("location: {}\r\n", path("pods/web/proxy/there?a=b"))), "{moved}");
    let page = exchange(&cluster, &get("page")).await;
    assert!(page.contains(&format!("<a href=\"{}\">x</a>", path("pods/web/proxy/x"))), "{page}");
}

#[tokio::test]
async fn bodies_stream_both_ways_whatever_their_size() {
    let network = Network::default();
    let cluster = network.cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let client = connect(&cluster);
    let (mut from, mut to) = tokio::io::split(client);
    // More than any object may have, through pipes of a few kibibytes.
    const LENGTH: usize = 5 << 20;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {LENGTH}\r\n\r\n",
        path("pods/web/proxy/echo")
    );
    let sending = tokio::spawn(async move {
        to.write_all(head.as_bytes()).await.unwrap();
        to.write_all(&vec![b'x'; LENGTH]).await.unwrap();
        to
    });
    let mut answer = Vec::new();
    from.read_to_end(&mut answer).await.unwrap();
    assert!(answer.iter().filter(|b| **b == b'x').count() >= LENGTH);
    drop((sending.await.unwrap(), from));
    network.quiet().await;
}

/// CVE-2018-1002105: what followed an upgrade that was refused went to the backend, with the rights of the API server.
#[tokio::test]
async fn upgrades_are_tunnels_that_end_with_either_side() {
    let network = Network::default();
    let cluster = network.cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let (mut client, answer) = upgrade(&cluster, "pods/web/proxy/upgrade").await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("upgrade: anything\r\n"), "{answer}");
    let mut said = [0; 4];
    client.write_all(b"ping").await.unwrap();
    client.read_exact(&mut said).await.unwrap();
    assert_eq!((&said, network.open()), (b"ping", 1));
    drop(client);
    network.quiet().await;
    let (mut client, _) = upgrade(&cluster, "pods/web/proxy/upgrade").await;
    client.write_all(b"quit").await.unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    network.quiet().await;
    // A refusal is the backend's own; an answer that is neither makes no sense.
    let (mut client, answer) = upgrade(&cluster, "pods/web/proxy/refuses-upgrades").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    // What the client sends then is not for the backend.
    client.write_all(b"GET /version HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("noHTTP/1.1 200") && rest.contains("gitVersion"), "{rest}");
    let (mut client, answer) = upgrade(&cluster, "pods/web/proxy/x").await;
    let mut body = vec![0; 300];
    let length = client.read(&mut body).await.unwrap();
    let body = String::from_utf8_lossy(&body[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 500") && body.contains("invalid upgrade response: status code 200"), "{body}");
}

/// A client that gave up once left the server waiting for an answer that nobody would read.
#[tokio::test]
async fn nothing_is_held_for_a_client_that_went_away() {
    let network = Network::default();
    let cluster = network.cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let mut client = connect(&cluster);
    let head = format!("GET {} HTTP/1.1\r\nhost: h\r\n\r\n", path("pods/web/proxy/never"));
    client.write_all(head.as_bytes()).await.unwrap();
    while network.open() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    network.quiet().await;
}

/// Browsers can only use GET for a WebSocket: whoever may look at pods could run programs in them.
#[tokio::test]
async fn what_runs_in_a_container_takes_the_right_to_create() {
    let cluster = Network::default().cluster().await;
    pod(&cluster, "web", "10.0.0.1", json!([])).await;
    let resources = json!(["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"]);
    let rules = json!([{"apiGroups": [""], "resources": resources, "verbs": ["get"]}]);
    let group = "/apis/rbac.authorization.k8s.io/v1";
    cluster.ok(&format!("{group}/clusterroles"), json!({"metadata": {"name": "r"}, "rules": rules})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"});
    let subject = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}]);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": subject});
    cluster.ok(&format!("{group}/clusterrolebindings"), binding).await;
    let user = UserInfo::new("u", &[]);
    for sub in ["exec?command=ls", "attach", "portforward"] {
        let place = path(&format!("pods/web/{sub}"));
        let (code, said) = cluster.ask_as(&user, Method::GET, &place, JSON, "").await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{said}");
        assert!(said["message"].as_str().unwrap().contains("cannot create resource"), "{said}");
        let (code, _) = cluster.ask(Method::PUT, &place, JSON, "").await;
        assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED);
    }
    // Methods of a proxy are verbs of their own.
    let place = path("pods/web/proxy/x");
    assert_eq!(cluster.ask_as(&user, Method::GET, &place, JSON, "").await.0, StatusCode::OK);
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(cluster.ask_as(&user, method, &place, JSON, "").await.0, StatusCode::FORBIDDEN);
    }
}
