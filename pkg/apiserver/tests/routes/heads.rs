//! HEAD, and numbers and booleans in queries, over every resource.

use http::{Method, StatusCode};

use crate::support::{Cluster, JSON, collection};

#[tokio::test]
async fn no_resource_serves_head() {
    let cluster = Cluster::new().await;
    for info in kedge_schema::resources() {
        let (code, body) = cluster.ask(Method::HEAD, &collection(info), JSON, "").await;
        assert_eq!((code, body.is_null()), (StatusCode::METHOD_NOT_ALLOWED, true), "{}", info.plural);
    }
    let (code, _) = cluster.ask(Method::HEAD, "/api/v1/namespaces/test", JSON, "").await;
    assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED);
    for (path, code) in [
        ("/version", 405),
        ("/api", 405),
        ("/api/v1", 405),
        ("/apis/apps/v1", 405),
        ("/apis", 200),
        ("/", 200),
        ("/healthz", 200),
        ("/nowhere", 404),
    ] {
        let (got, body) = cluster.ask(Method::HEAD, path, JSON, "").await;
        assert_eq!((got.as_u16(), body.is_null()), (code, true), "{path}");
    }
}

#[tokio::test]
async fn numbers_that_are_none_are_refused_everywhere() {
    let cluster = Cluster::new().await;
    let listed =
        kedge_schema::resources().iter().filter(|info| info.is_stored() && info.verbs.iter().any(|v| *v == "list"));
    for info in listed {
        for query in ["limit=x", "timeoutSeconds=1.5", "limit", "watch&timeoutSeconds=x"] {
            let (code, answer) = cluster.ask(Method::GET, &format!("{}?{query}", collection(info)), JSON, "").await;
            assert_eq!(code, StatusCode::BAD_REQUEST, "{} {query}: {answer}", info.plural);
            assert!(answer["message"].as_str().unwrap().starts_with("strconv.ParseInt: parsing "), "{answer}");
        }
    }
}
