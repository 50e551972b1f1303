//! What admission is asked, when, and with which objects: as upstream asks it.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, StatusCode};
use kedge_admission::Chain;
use kedge_meta::Status;
use kedge_registry::{Admission, Attributes};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, MERGE, NAMESPACE};

/// What was asked, in order.
type Asked = Arc<Mutex<Vec<Value>>>;

/// Writes down what the chain is asked, and labels every object that can carry labels.
struct Recording {
    chain: Chain,
    asked: Asked,
}

impl Recording {
    fn note(&self, step: &str, attributes: &Attributes<'_>) {
        self.asked.lock().push(json!({
            "step": step, "operation": attributes.operation.as_str(), "resource": attributes.resource.plural.as_str(),
            "subresource": attributes.subresource, "kind": attributes.kind().2, "namespace": attributes.namespace,
            "name": attributes.name, "object": attributes.object, "old": attributes.old, "dryRun": attributes.dry_run,
            "options": attributes.options_object(),
        }));
    }
}

#[async_trait]
impl Admission for Recording {
    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        self.note("mutate", attributes);
        if attributes.object.get("metadata").is_some() && attributes.object["kind"] == "Deployment" {
            attributes.object["metadata"]["labels"]["seen"] = "yes".into();
        }
        self.chain.admit(attributes).await
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        self.note("validate", attributes);
        self.chain.validate(attributes).await
    }
}

async fn cluster() -> (Cluster, Asked) {
    let asked = Asked::default();
    let cluster = Cluster::with_admission(|chain| Recording { chain, asked: asked.clone() }).await;
    asked.lock().clear();
    (cluster, asked)
}

fn taken(asked: &Asked) -> Vec<Value> {
    std::mem::take(&mut *asked.lock())
}

fn deployments(rest: &str) -> String {
    format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments{rest}")
}

fn deployment() -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    json!({"metadata": {"generateName": "d-", "uid": "mine"}, "spec": spec, "status": {"replicas": 9}})
}

#[tokio::test]
async fn a_creation_is_seen_as_the_client_wants_it_and_as_it_is_stored() {
    let (cluster, asked) = cluster().await;
    let made = cluster.ok(&deployments("?fieldManager=me&fieldValidation=Strict"), deployment()).await;
    assert_eq!(made["metadata"]["labels"]["seen"], "yes");
    let seen = taken(&asked);
    let [mutate, validate] = seen.as_slice() else { panic!("{seen:?}") };
    // The name is generated between the two.
    for (step, name) in [(mutate, &json!("")), (validate, &made["metadata"]["name"])] {
        let what = ["operation", "resource", "subresource", "kind", "namespace"].map(|f| step[f].clone());
        assert_eq!(what, ["CREATE", "deployments", "", "Deployment", NAMESPACE]);
        assert_eq!(&step["name"], name);
        assert_eq!((&step["old"], &step["dryRun"]), (&Value::Null, &json!(false)));
        let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me",
            "fieldValidation": "Strict"});
        assert_eq!(step["options"], options);
    }
    assert_eq!(mutate["object"]["metadata"].get("uid"), None, "it has no identity yet");
    assert_eq!(mutate["object"]["metadata"].get("name"), None, "nor a name");
    assert_eq!(mutate["object"]["status"]["replicas"], 9, "the kind's rules come later");
    assert_eq!(validate["object"]["metadata"]["name"], made["metadata"]["name"]);
    assert_eq!(validate["object"]["metadata"]["uid"], made["metadata"]["uid"]);
    assert_ne!(validate["object"]["status"]["replicas"], 9);
}

#[tokio::test]
async fn a_change_is_seen_before_and_after_the_kinds_own_rules() {
    let (cluster, asked) = cluster().await;
    let made = cluster.ok(&deployments(""), deployment()).await;
    let path = deployments(&format!("/{}", made["metadata"]["name"].as_str().unwrap()));
    taken(&asked);
    let change = json!({"spec": {"replicas": 3}, "status": {"replicas": 7}});
    let (code, _) = cluster.patch(&format!("{path}?dryRun=All"), MERGE, &change).await;
    assert_eq!(code, StatusCode::OK);
    let seen = taken(&asked);
    let [mutate, validate] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(mutate["object"]["status"]["replicas"], 7, "what the client wants");
    assert_eq!(validate["object"]["status"].get("replicas"), None, "what will be stored");
    for step in [mutate, validate] {
        assert_eq!((&step["operation"], &step["dryRun"]), (&json!("UPDATE"), &json!(true)));
        assert_eq!(step["old"]["metadata"]["uid"], made["metadata"]["uid"]);
        assert_eq!(step["options"]["kind"], "UpdateOptions");
        assert_eq!(step["options"]["dryRun"], json!(["All"]));
    }
    // A scale is admitted as one.
    let (code, scale) = cluster.patch(&format!("{path}/scale"), MERGE, &json!({"spec": {"replicas": 5}})).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (StatusCode::OK, &json!(5)));
    let seen = taken(&asked);
    assert_eq!(seen.len(), 2, "{seen:?}");
    for step in &seen {
        assert_eq!((&step["kind"], &step["subresource"]), (&json!("Scale"), &json!("scale")));
        assert_eq!((&step["object"]["kind"], &step["object"]["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
        assert_eq!((&step["old"]["kind"], &step["old"]["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    }
}

#[tokio::test]
async fn a_deletion_is_seen_with_what_goes() {
    let (cluster, asked) = cluster().await;
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    for name in ["a", "b", "c"] {
        cluster.ok(&maps, json!({"metadata": {"name": name}})).await;
    }
    taken(&asked);
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    let (code, _) = cluster.ask(Method::DELETE, &format!("{maps}/a"), JSON, options.to_string()).await;
    assert_eq!(code, StatusCode::OK);
    let seen = taken(&asked);
    assert_eq!(seen.iter().map(|step| &step["step"]).collect::<Vec<_>>(), ["mutate", "validate"]);
    for step in &seen {
        assert_eq!((&step["operation"], &step["name"], &step["object"]), (&json!("DELETE"), &json!("a"), &Value::Null));
        assert_eq!(step["old"]["metadata"]["name"], "a");
        let wanted =
            json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Background"});
        assert_eq!(step["options"], wanted);
    }
    // Of a collection each object is shown, under no name.
    let (code, _) = cluster.ask(Method::DELETE, &maps, JSON, "").await;
    assert_eq!(code, StatusCode::OK);
    let seen = taken(&asked);
    let names: Vec<_> = seen.iter().map(|step| (&step["name"], &step["old"]["metadata"]["name"])).collect();
    let (none, [b, c]) = (json!(""), [json!("b"), json!("c")]);
    assert_eq!(names, [(&none, &b), (&none, &b), (&none, &c), (&none, &c)]);
}

#[tokio::test]
async fn a_deletion_that_is_under_way_is_nobodys_business() {
    let (cluster, asked) = cluster().await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
    cluster.ok(&pods, json!({"metadata": {"name": "p"}, "spec": spec})).await;
    taken(&asked);
    let delete = async |seconds: &str| {
        let path = format!("{pods}/p{seconds}");
        let (code, pod) = cluster.ask(Method::DELETE, &path, JSON, "").await;
        assert_eq!(code, StatusCode::OK, "{pod}");
        (pod["metadata"]["deletionGracePeriodSeconds"].clone(), taken(&asked).len())
    };
    assert_eq!(delete("").await, (json!(30), 2));
    assert_eq!(delete("").await, (json!(30), 0));
    assert_eq!(delete("?gracePeriodSeconds=60").await, (json!(30), 0), "it cannot be made longer");
    assert_eq!(delete("?gracePeriodSeconds=5").await, (json!(5), 2));
    assert_eq!(delete("?gracePeriodSeconds=0").await.1, 2);
}

#[tokio::test]
async fn what_is_no_object_of_its_own_is_seen_as_what_it_is() {
    let (cluster, asked) = cluster().await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    cluster.ok(&pods, json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).await;
    taken(&asked);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(cluster.post(&format!("{pods}/p/binding"), &binding).await.0, StatusCode::CREATED);
    let bound = cluster.get(&format!("{pods}/p")).await;
    assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["generation"]), (&json!("n"), &json!(1)));
    let eviction = json!({"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}});
    assert_eq!(cluster.post(&format!("{pods}/p/eviction"), &eviction).await.0, StatusCode::CREATED);
    let token = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default/token");
    assert_eq!(cluster.post(&token, &json!({})).await.0, StatusCode::CREATED);
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(cluster.post(reviews, &review).await.0, StatusCode::CREATED);
    let seen = taken(&asked);
    let kinds: Vec<_> =
        seen.iter().step_by(2).map(|step| [&step["operation"], &step["kind"]].map(Value::clone)).collect();
    let create = |kind: &str| [json!("CREATE"), json!(kind)];
    let wanted = ["Binding", "Eviction", "TokenRequest", "SelfSubjectAccessReview"].map(create);
    assert_eq!((kinds, seen.len()), (wanted.to_vec(), 8));
}

#[tokio::test]
async fn a_connection_is_seen_with_its_options() {
    let (cluster, asked) = cluster().await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods/none");
    let (code, _) = cluster.post(&format!("{pods}/exec?command=ls&stdout=true&container=c"), &json!({})).await;
    assert_eq!(code, StatusCode::NOT_FOUND, "admission comes before the pod is looked for");
    let seen = taken(&asked);
    assert_eq!(seen.len(), 2, "{seen:?}");
    for step in &seen {
        let what = ["operation", "resource", "subresource", "kind", "name"].map(|field| step[field].clone());
        assert_eq!(what, ["CONNECT", "pods", "exec", "PodExecOptions", "none"]);
        let options =
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "container": "c", "command": ["ls"]});
        assert_eq!((&step["object"], &step["options"]), (&options, &Value::Null));
    }
    let (code, answer) = cluster.post(&format!("{pods}/exec?command=ls&dryRun=All"), &json!({})).await;
    assert_eq!((code, &answer["message"]), (StatusCode::BAD_REQUEST, &json!("dryRun is not supported")));
    assert_eq!(cluster.ask(Method::GET, &format!("{pods}/log"), JSON, "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(taken(&asked).len(), 0, "logs are read");
}
