//! The audit: what a policy wants recorded is recorded, in upstream's form, and nothing else.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::webhook::{Reply, Webhook};
use crate::support::{TestCluster, eventually};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ['system:kube-controller-manager', 'system:apiserver', 'system:kube-scheduler']}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse, omitManagedFields: true, namespaces: [default], resources: [{group: '', resources: [configmaps]}]}
- {level: Request, resources: [{group: '', resources: [namespaces]}], omitStages: []}
- {level: Metadata, resources: [{group: '', resources: [services]}]}
- {level: Metadata, nonResourceURLs: ['/version']}
";

/// A server with an audit, and the folder in which its policy and its log are.
struct Audited {
    cluster: TestCluster,
    dir: tempfile::TempDir,
}

impl Audited {
    fn start(policy: &str, settings: &[String]) -> Self {
        let dir = tempfile::Builder::new().prefix("kedge-audit-").tempdir().unwrap();
        std::fs::write(dir.path().join("policy.yaml"), policy).unwrap();
        let own = [
            format!("audit-policy-file={}", dir.path().join("policy.yaml").display()),
            format!("audit-log-path={}", Self::log(dir.path()).display()),
        ];
        let flags: Vec<String> =
            own.iter().chain(settings).map(|setting| format!("--kube-apiserver-arg={setting}")).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Self { cluster: TestCluster::control_plane_with(&flags), dir }
    }

    fn log(dir: &Path) -> PathBuf {
        dir.join("audit.log")
    }

    /// The events that are recorded of something.
    fn events(&self, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let text = std::fs::read_to_string(Self::log(self.dir.path())).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(is).collect()
    }

    /// The one event of a request that has been answered.
    fn event(&self, verb: &str, resource: &str, name: &str) -> Value {
        eventually("an event", || {
            let found = self.events(|event| {
                let about = &event["objectRef"];
                event["verb"] == verb && about["resource"] == resource && about["name"] == name
            });
            match found.as_slice() {
                [event] => Ok(event.clone()),
                others => Err(format!("{} events of {verb} {resource} {name}", others.len())),
            }
        })
    }
}

/// May take on a user who gets config maps.
const ROBOT: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: robot}
rules:
- {apiGroups: [authentication.k8s.io], resources: [users], verbs: ['impersonate:user-info']}
- {apiGroups: [''], resources: [configmaps], verbs: ['impersonate-on:user-info:get']}
";
/// The same by the older way.
const OLDER: &str = r#"[{"op": "replace", "path": "/rules/0", "value": {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}}]"#;

#[test]
fn what_the_policy_wants_is_recorded_and_nothing_else() {
    let audited = Audited::start(POLICY, &[]);
    let cluster = &audited.cluster;
    cluster.ok(&["create", "configmap", "m", "--from-literal=a=b"]);
    let event = audited.event("create", "configmaps", "m");
    assert_eq!((&event["kind"], &event["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
    assert_eq!((&event["level"], &event["stage"]), (&json!("RequestResponse"), &json!("ResponseComplete")));
    assert_eq!(event["user"]["username"], "system:admin");
    assert_eq!(event["sourceIPs"], json!(["127.0.0.1"]));
    assert!(event["userAgent"].as_str().unwrap().starts_with("kubectl/"));
    assert!(event["requestURI"].as_str().unwrap().starts_with("/api/v1/namespaces/default/configmaps?"));
    assert_eq!(
        event["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "m", "apiVersion": "v1"})
    );
    assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(event["requestObject"]["data"], json!({"a": "b"}));
    let made = &event["responseObject"];
    assert_eq!((&made["data"]["a"], &made["metadata"]["managedFields"]), (&json!("b"), &Value::Null));
    assert!(made["metadata"]["uid"].is_string());
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow");

    cluster.ok(&["create", "secret", "generic", "s", "--from-literal=password=hidden"]);
    let event = audited.event("create", "secrets", "s");
    assert_eq!(
        (&event["level"], &event["requestObject"], &event["responseObject"]),
        (&json!("Metadata"), &Value::Null, &Value::Null)
    );
    let text = std::fs::read_to_string(Audited::log(audited.dir.path())).unwrap();
    assert!(!text.contains("aGlkZGVu") && !text.contains("hidden"), "a secret stands in the log");

    cluster.ok(&["patch", "configmap", "m", "--type=merge", "-p", r#"{"data":{"c":"d"}}"#]);
    let event = audited.event("patch", "configmaps", "m");
    assert_eq!(
        (&event["requestObject"], &event["responseObject"]["data"]),
        (&json!({"data": {"c": "d"}}), &json!({"a": "b", "c": "d"}))
    );

    // Not allowed, in somebody's name: it is recorded with its reason and what was answered.
    cluster.fails(&["get", "configmap", "other", "--as", "jane", "--as-group", "people"]);
    let event = audited.event("get", "configmaps", "other");
    assert_eq!(event["impersonatedUser"], json!({"username": "jane", "groups": ["people", "system:authenticated"]}));
    assert_eq!(
        (&event["responseStatus"]["code"], &event["responseStatus"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(event["responseObject"]["kind"], "Status");
    let constrained = json!({"impersonationConstraint": "impersonate:user-info"});
    assert_eq!(event["authenticationMetadata"], constrained, "who may do everything may do that, too");

    // What allowed it is recorded, by a constrained way and by the older one.
    cluster.ok(&["create", "serviceaccount", "robot"]);
    cluster.apply(ROBOT);
    let robot = "--serviceaccount=default:robot";
    cluster.ok(&["create", "clusterrolebinding", "robot", "--clusterrole=robot", robot]);
    cluster.ok(&["create", "clusterrolebinding", "jane", "--clusterrole=view", "--user=jane"]);
    let token = cluster.ok(&["create", "token", "robot"]);
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let as_jane = |name: &str| {
        let path = format!("/api/v1/namespaces/default/configmaps/{name}");
        Http::of(cluster).ask_as_nobody("--http2", &path, &["-H", &bearer, "-H", "Impersonate-User: jane"]);
        let event = audited.event("get", "configmaps", name);
        assert_eq!(event["user"]["username"], "system:serviceaccount:default:robot");
        assert_eq!(event["responseStatus"]["code"], 404, "who may see it sees that there is none");
        event["authenticationMetadata"].clone()
    };
    assert_eq!(as_jane("constrained"), constrained);
    cluster.ok(&["patch", "clusterrole", "robot", "--type=json", "-p", OLDER]);
    assert_eq!(as_jane("older"), Value::Null);

    // Nobody knows who that is.
    let http = Http::of(cluster);
    http.ask_as_nobody("--http2", "/api/v1/namespaces/default/configmaps/x", &["-H", "Authorization: Bearer nonsense"]);
    let event = audited.event("get", "configmaps", "x");
    assert_eq!((&event["stage"], &event["user"]), (&json!("ResponseStarted"), &json!({})));
    let status = json!({"metadata": {}, "message": "Authentication failed, attempted: bearer", "code": 401});
    assert_eq!(event["responseStatus"], status);

    cluster.ok(&["delete", "configmap", "m"]);
    let event = audited.event("delete", "configmaps", "m");
    assert_eq!(
        (&event["responseStatus"]["status"], &event["responseStatus"]["code"]),
        (&json!("Success"), &json!(200))
    );
    // What no rule is about.
    cluster.ok(&["get", "pods"]);
    cluster.ok(&["get", "--raw", "/version"]);
    eventually("the event behind it", || match audited.events(|event| event["requestURI"] == "/version").len() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    assert!(audited.events(|event| event["objectRef"]["resource"] == "pods").is_empty());
    assert!(audited.events(|event| event["stage"] == "RequestReceived").is_empty());
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    assert!(
        metrics.contains("apiserver_audit_event_total ")
            && metrics.contains("apiserver_audit_level_total{level=\"Request\"}")
    );
}

/// A watch begins, and ends much later; a long list is recorded when it has been sent.
#[test]
fn what_streams_is_recorded_at_its_begin_and_at_its_end() {
    let audited = Audited::start(POLICY, &[]);
    let cluster = &audited.cluster;
    let large = "x".repeat(90_000);
    let items: Vec<Value> = (0..4)
        .map(|n| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("l{n}")}, "data": {"a": large}}))
        .collect();
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
    cluster.ok(&["get", "configmaps", "-o", "name", "--chunk-size=0"]);
    let listed = eventually("the list", || {
        let all = audited.events(|event| event["verb"] == "list" && event["responseObject"]["items"].is_array());
        all.last().cloned().ok_or_else(|| "no list".to_owned())
    });
    let names: Vec<&str> = listed["responseObject"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|map| map["metadata"]["name"].as_str())
        .collect();
    assert!(names.ends_with(&["l0", "l1", "l2", "l3"]), "{names:?}");
    let watch = ["get", "--raw", "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion=0"];
    cluster.ok(&watch);
    let stages = eventually("both ends of the watch", || {
        let all = audited.events(|event| event["verb"] == "watch" && event["objectRef"]["namespace"] == "default");
        let stages: Vec<String> = all.iter().filter_map(|event| event["stage"].as_str()).map(str::to_owned).collect();
        if stages.len() >= 2 { Ok(stages) } else { Err(format!("{stages:?}")) }
    });
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete"]);
}

#[test]
fn events_are_sent_to_a_webhook_many_at_a_time() {
    let hook = Webhook::start(|_, _| Reply::Raw(200, "{}".to_owned()));
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("hook.yaml");
    let cluster = json!({"server": format!("https://127.0.0.1:{}/audit", hook.port()), "certificate-authority-data": hook.bundle()});
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, content.to_string()).unwrap();
    let settings = [
        format!("audit-webhook-config-file={}", kubeconfig.display()),
        "audit-webhook-batch-max-wait=100ms".to_owned(),
    ];
    let audited = Audited::start(POLICY, &settings);
    audited.cluster.ok(&["create", "secret", "generic", "sent"]);
    eventually("the event at the webhook", || {
        let lists = hook.asked("/audit");
        assert!(lists.iter().all(|list| list["kind"] == "EventList" && list["apiVersion"] == "audit.k8s.io/v1"));
        let events = lists.iter().filter_map(|list| list["items"].as_array()).flatten();
        let found = events.filter(|event| event["objectRef"]["name"] == "sent" && event["verb"] == "create").count();
        if found == 1 { Ok(()) } else { Err(format!("{found} in {} lists", lists.len())) }
    });
}

#[test]
fn a_policy_that_is_wrong_keeps_the_server_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]").unwrap();
    let flags = [
        format!("--kube-apiserver-arg=audit-policy-file={}", policy.display()),
        "--kube-apiserver-arg=audit-log-path=-".to_owned(),
    ];
    let said = TestCluster::refused(&flags.each_ref().map(String::as_str));
    assert!(said.contains("rules[0].level: Unsupported value: \"All\""), "{said}");
}
