//! Answers that come before a request has ended, and answers without a body, over both versions of HTTP.

use crate::support::TestCluster;
use crate::support::http::Http;

const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

/// Once HTTP/2 ended in an error of the protocol, and HTTP/1.1 in a success.
#[test]
fn head_is_no_way_to_get_a_resource() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    for version in VERSIONS {
        for (path, code) in [
            ("/api/v1/namespaces", 405),
            ("/api/v1/namespaces/default", 405),
            ("/api/v1/pods?watch=1", 405),
            ("/api/v1", 405),
            ("/version", 405),
            ("/healthz", 200),
            ("/apis", 200),
            ("/nowhere", 404),
        ] {
            let answer = http.ask(version, path, &["--head"]);
            assert_eq!((answer.code, answer.error.as_str()), (code, ""), "{version} {path}: {answer:?}");
            assert!(version.ends_with(&answer.version), "that was meant: {version} {answer:?}");
        }
    }
}

/// Whoever still sends when it is refused must be shown why: a connection that breaks says nothing.
#[test]
fn an_early_refusal_is_read_by_who_still_sends() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    // Larger than all buffers on the way, and than what the server takes at most.
    let body = cluster.file("large.json", &format!("{{\"a\":\"{}\"}}", "x".repeat(8 << 20)));
    let body = format!("@{}", body.to_string_lossy());
    let maps = "/api/v1/namespaces/default/configmaps";
    let json = "Content-Type: application/json";
    for version in VERSIONS {
        for (path, arguments, code, reason) in [
            (maps, vec!["-H", json, "-H", "Impersonate-User: nobody"], 403, "Forbidden"),
            (maps, vec!["-H", json, "-H", "Impersonate-Group: g"], 400, "BadRequest"),
            (maps, vec!["-H", json], 413, "RequestEntityTooLarge"),
            (maps, vec!["-H", "Content-Type: application/x-nothing"], 415, "UnsupportedMediaType"),
            ("/apis/nothing.io/v1/things", vec!["-H", json], 404, "404 page not found\n"),
            ("/version", vec!["-H", json], 405, "MethodNotAllowed"),
        ] {
            let mut all = vec!["-X", "POST", "--data-binary", &body, "-H", "Expect:"];
            all.extend(&arguments);
            let answer = http.ask(version, path, &all);
            assert_eq!((answer.code, answer.error.as_str()), (code, ""), "{version} {path} {arguments:?}: {answer:?}");
            match code {
                // What nothing serves is no object, as upstream.
                404 => assert_eq!(answer.body, reason, "{version}: {answer:?}"),
                _ => assert_eq!(answer.json()["reason"], reason, "{version} {path} {arguments:?}: {answer:?}"),
            }
        }
        let nobody = ["-X", "POST", "--data-binary", &body, "-H", "Expect:", "-H", json];
        let answer = http.ask_as_nobody(version, maps, &nobody);
        assert_eq!(
            (answer.code, answer.json()["reason"].as_str()),
            (401, Some("Unauthorized")),
            "{version}: {answer:?}"
        );
        // With the answer ends the connection of one who is not known, if many might share it, as upstream: curl says so, too.
        assert!(version == "--http2" || answer.error.is_empty(), "{version}: {answer:?}");
    }
}
