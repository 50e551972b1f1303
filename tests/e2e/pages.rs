//! What is no resource: paths with too many slashes, health by single checks, pages about the server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::TestCluster;
use crate::support::http::Http;

/// Slashes at the end are nothing to the API, and everything to a page; one too many at the beginning is nobody's path.
#[test]
fn slashes_mean_what_they_mean_upstream() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    let (page, status) = ("404 page not found\n", "the server could not find the requested resource");
    for (path, code, text) in [
        ("/api/v1/namespaces/default/", 200, ""),
        ("/api/v1/namespaces//", 200, ""),
        ("/version/", 200, ""),
        ("/apis/apps/v1//", 200, ""),
        ("/apis/", 200, ""),
        ("/apis//", 404, page),
        ("//api/v1/namespaces", 404, page),
        ("/api//v1/namespaces", 404, status),
        ("/api/v1//namespaces", 404, status),
        ("/healthz/", 404, page),
        ("//healthz", 404, page),
        ("/metrics/", 404, page),
        ("/openapi/v2/", 404, page),
        ("/openapi/v3/api/v1/", 404, ""),
        ("/version/x", 404, status),
        ("/api/v1/pods/x", 404, status),
        ("/api/v1/namespaces/default/pods/x/log/more", 404, status),
        ("/api/v1/namespaces/a%25b", 400, "Name parameter invalid: \\\"a%b\\\": may not contain '%'"),
        ("/a%zz", 400, "400 Bad Request"),
    ] {
        let answer = http.ask("--http1.1", path, &["--path-as-is"]);
        let fits = if text == page { answer.body == page } else { answer.body.contains(text) };
        assert!(answer.code == code && fits, "{path}: {answer:?}");
    }
}

#[test]
fn methods_are_nothing_to_pages_and_unknown_to_resources() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    for method in ["OPTIONS", "TRACE", "FETCH", "PUT"] {
        for (path, code) in [
            ("/", 200),
            ("/apis", 200),
            ("/apis/apps", 200),
            ("/healthz", 200),
            ("/metrics", 200),
            ("/openapi/v3", 200),
            ("/version", 405),
            ("/api", 405),
            ("/apis/apps/v1", 405),
            ("/api/v1/namespaces", 405),
            ("/nowhere", 404),
        ] {
            let answer = http.ask("--http2", path, &["-X", method]);
            assert_eq!(answer.code, code, "{method} {path}: {answer:?}");
            if code == 405 {
                let message = "the server does not allow this method on the requested resource";
                assert_eq!(answer.json()["message"], message, "{method} {path}");
            }
        }
    }
    let someone = ["-X", "OPTIONS", "-H", "Impersonate-User: someone"];
    let answer = http.ask("--http2", "/api/v1/namespaces", &someone);
    assert_eq!(answer.code, 403, "{answer:?}");
}

#[test]
fn health_is_shown_check_by_check() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    let body = |path: &str| http.ask("--http2", path, &[]).body;
    for endpoint in ["healthz", "livez", "readyz"] {
        let report = body(&format!("/{endpoint}?verbose"));
        assert!(report.starts_with("[+]ping ok\n[+]etcd ok\n"), "{report}");
        assert!(report.ends_with(&format!("\n{endpoint} check passed\n")), "{report}");
        for check in ["poststarthook/rbac/bootstrap-roles", "poststarthook/priority-and-fairness-config-producer"] {
            assert!(report.contains(&format!("[+]{check} ok\n")), "{report}");
            assert_eq!(body(&format!("/{endpoint}/{check}")), "ok");
        }
        assert_eq!(report.contains("shutdown"), endpoint == "readyz", "{report}");
    }
    let report = body("/readyz?verbose&exclude=etcd&exclude=nothing");
    assert!(report.contains("[+]etcd excluded: ok\n"), "{report}");
    assert!(report.contains("warn: some health checks cannot be excluded: no matches for \"nothing\"\n"), "{report}");
    assert_eq!(body("/readyz/nothing"), "404 page not found\n");
    // Whether the server is well is for everybody, what it is made of is not.
    for (path, code) in [("/readyz", 200), ("/livez?verbose", 200), ("/readyz/etcd", 401)] {
        assert_eq!(http.ask_as_nobody("--http2", path, &[]).code, code, "{path}");
    }
    let indicators = body("/metrics/slis");
    assert!(indicators.contains("kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 1\n"), "{indicators}");
    let total = "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} ";
    assert!(indicators.contains(total), "{indicators}");
    let paths = http.ask("--http2", "/", &[]).json()["paths"].clone();
    let has = |path: &str| paths.as_array().unwrap().iter().any(|known| known == path);
    assert!(has("/readyz/poststarthook/rbac/bootstrap-roles") && has("/metrics/slis") && has("/readyz"), "{paths}");
}

/// Clients that forget the `s` of `https` are told so.
#[test]
fn who_speaks_without_tls_is_told() {
    let cluster = TestCluster::control_plane();
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.port())).unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
}

#[test]
fn columns_of_tables_say_what_they_are_about() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    let table = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io";
    for (path, column, start) in [
        ("/api/v1/pods", "Name", "Name must be unique within a namespace."),
        ("/api/v1/pods", "Node", "NodeName indicates in which node this pod is scheduled."),
        ("/api/v1/pods", "Status", "The aggregate status of the containers in this pod."),
        ("/apis/apps/v1/deployments", "Age", "CreationTimestamp is a timestamp"),
        ("/apis/rbac.authorization.k8s.io/v1/roles", "Created At", "CreationTimestamp is a timestamp"),
    ] {
        let answer = http.ask("--http2", path, &["-H", table]).json();
        let columns = answer["columnDefinitions"].as_array().unwrap();
        let found = columns.iter().find(|found| found["name"] == column).unwrap();
        let words = found["description"].as_str().unwrap();
        assert!(words.starts_with(start), "{path} {column}: {words}");
    }
}
