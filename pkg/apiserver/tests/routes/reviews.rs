//! Questions about access.

use http::StatusCode;
use serde_json::json;

use crate::support::{Cluster, NAMESPACE};

/// Who may ask about one namespace could ask about any other, by naming it in the metadata too; who named none was refused.
#[tokio::test]
async fn a_local_question_is_about_the_namespace_in_which_it_is_asked() {
    let cluster = Cluster::new().await;
    let path = format!("/apis/authorization.k8s.io/v1/namespaces/{NAMESPACE}/localsubjectaccessreviews");
    let question = |metadata: serde_json::Value, namespace: &str| {
        let resource = json!({"verb": "get", "resource": "pods", "namespace": namespace});
        json!({"metadata": metadata, "spec": {"user": "u", "resourceAttributes": resource}})
    };
    let asked = async |body| cluster.post(&path, &body).await;
    let (code, answer) = asked(question(json!({"namespace": "kube-system"}), "kube-system")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{answer}");
    let (code, answer) = asked(question(json!({}), "kube-system")).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    for metadata in [json!({}), json!({"namespace": NAMESPACE})] {
        let (code, answer) = asked(question(metadata, NAMESPACE)).await;
        assert_eq!((code, &answer["status"]["allowed"]), (StatusCode::CREATED, &json!(false)), "{answer}");
    }
}
