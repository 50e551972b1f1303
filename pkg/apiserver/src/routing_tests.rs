//! What a path and a method lead to, before anything is done.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kedge_registry::{ClusterConfig, Registry};
use kedge_storage::Storage;

use super::*;

async fn catalogue() -> Arc<Catalogue> {
    let clock = kedge_base::system_clock();
    let kv = Arc::new(kedge_kv::Embedded::memory(clock.clone()).unwrap());
    let storage = Storage::open(kv, &Registry::storage_configs(), Arc::default(), clock.clone()).await.unwrap();
    let config = ClusterConfig {
        service_cidrs: vec!["10.43.0.0/24".parse().unwrap()],
        node_ports: (30_000, 30_100),
        shared: false,
    };
    Registry::new(Arc::new(storage), clock, config).catalogue()
}

/// The handler of a request in a word, or the code of the refusal.
fn led(catalogue: &Catalogue, method: Method, path: &str) -> String {
    let info = RequestInfo::parse(&method, &path.parse().unwrap()).unwrap();
    match resolve(&info, &method, catalogue) {
        Ok(Route::Verb(verb, _)) => format!("{verb:?}"),
        Ok(Route::Subresource(subresource, _)) => format!("{subresource:?}"),
        Ok(Route::Bindings) => "Bindings".into(),
        Ok(Route::Review(resource)) => format!("Review of {}", resource.plural),
        Ok(Route::Usage(resource)) => format!("Usage of {}", resource.plural),
        Err(status) => status.code.to_string(),
    }
}

#[tokio::test]
async fn every_request_has_one_handler_or_a_refusal() {
    let catalogue = catalogue().await;
    let (pods, pod) = ("/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/pods/p");
    let below = |sub: &str| format!("{pod}/{sub}");
    for (method, path, wanted) in [
        (Method::GET, "/api/v1/pods".to_owned(), "List"),
        (Method::GET, format!("{pods}?watch=1"), "Watch"),
        (Method::GET, pod.into(), "Get"),
        (Method::HEAD, pod.into(), "405"),
        (Method::POST, pods.into(), "Create"),
        (Method::POST, "/api/v1/pods".into(), "405"),
        (Method::POST, pod.into(), "405"),
        (Method::PUT, pods.into(), "405"),
        (Method::PUT, pod.into(), "Update"),
        (Method::PATCH, pod.into(), "Patch"),
        (Method::DELETE, pod.into(), "Delete"),
        (Method::DELETE, pods.into(), "DeleteCollection"),
        (Method::DELETE, format!("{pods}?dryRun=x"), "422"),
        (Method::GET, format!("{pods}?limit=x"), "400"),
        (Method::GET, below("status"), "Object(Get)"),
        (Method::PUT, below("status"), "Object(Update)"),
        (Method::POST, below("status"), "405"),
        (Method::GET, below("nothing"), "404"),
        (Method::GET, below("log"), "Stream"),
        (Method::POST, below("log"), "405"),
        (Method::POST, below("exec?command=a"), "Stream"),
        (Method::POST, below("exec?dryRun=All"), "400"),
        (Method::HEAD, below("proxy/x?limit=x"), "Proxy"),
        (Method::POST, below("binding"), "Binding"),
        (Method::POST, below("eviction"), "Eviction"),
        (Method::POST, "/api/v1/namespaces/a/bindings".into(), "Bindings"),
        (Method::GET, "/api/v1/namespaces/a/bindings".into(), "405"),
        // Whoever lets only such paths pass lets nothing be written.
        (Method::GET, "/api/v1/watch/namespaces/a/pods".into(), "Watch"),
        (Method::DELETE, "/api/v1/watch/namespaces/a/pods/p".into(), "405"),
        (Method::POST, "/api/v1/watch/namespaces/a/pods".into(), "405"),
        (Method::PUT, "/api/v1/watch/namespaces/a/pods/p".into(), "405"),
        (Method::POST, "/api/v1/namespaces/a/serviceaccounts/s/token".into(), "Token"),
        (Method::PUT, "/api/v1/namespaces/a/finalize".into(), "Finalize"),
        (Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/d/scale".into(), "Scale"),
        (Method::DELETE, "/apis/apps/v1/namespaces/a/deployments/d/scale".into(), "405"),
        (Method::GET, "/api/v1/namespaces/a/nodes".into(), "404"),
        (Method::GET, "/apis/none/v1/things".into(), "404"),
        (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews".into(), "Review of tokenreviews"),
        (Method::GET, "/api/v1/componentstatuses".into(), "Review of componentstatuses"),
    ] {
        assert_eq!(led(&catalogue, method.clone(), &path), wanted, "{method} {path}");
    }
}

#[tokio::test]
async fn a_patch_that_is_a_configuration_is_applied() {
    let catalogue = catalogue().await;
    let uri = "/api/v1/namespaces/a/pods/p?fieldManager=m".parse().unwrap();
    let info = RequestInfo { applies: true, ..RequestInfo::parse(&Method::PATCH, &uri).unwrap() };
    assert!(matches!(resolve(&info, &Method::PATCH, &catalogue), Ok(Route::Verb(Verb::Apply, _))));
}
