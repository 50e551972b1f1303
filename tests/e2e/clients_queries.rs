//! Queries as clients of other languages write them.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::TestCluster;
use crate::support::http::Http;

/// Python says `True`, others say nothing: all of them want to watch. Once they were given a list.
#[test]
fn every_yes_is_a_watch() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "m"]);
    for query in ["watch=True", "watch=yes", "watch", "watch=1", "watch=true"] {
        let path = format!("/api/v1/namespaces/default/configmaps?{query}&timeoutSeconds=10");
        let mut child = cluster.kubectl_command(&["get", "--raw", &path]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["type"], "ADDED", "{query}: {line}");
    }
    for query in ["watch=False", "watch=0", "watch=FALSE"] {
        let list = cluster.ok(&["get", "--raw", &format!("/api/v1/namespaces/default/configmaps?{query}")]);
        assert!(list.starts_with(r#"{"kind":"ConfigMapList""#) || list.contains("ConfigMapList"), "{query}: {list}");
    }
}

#[test]
fn what_is_no_number_is_refused() {
    let cluster = TestCluster::control_plane();
    let answer = Http::of(&cluster).ask("--http1.1", "/api/v1/pods?limit=many", &[]);
    let status = answer.json();
    assert_eq!((answer.code, status["reason"].as_str()), (400, Some("BadRequest")));
    assert_eq!(status["message"], r#"strconv.ParseInt: parsing "many": invalid syntax"#);
}
