//! Group versions that other servers serve.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::support::extension::{Extension, GROUP, Manner};
use crate::support::http::Http;
use crate::support::{TestCluster, eventually};

const WIDGETS: &str = "/apis/widgets.example.com/v1/namespaces/default/widgets";

fn widget(cluster: &TestCluster, name: &str) -> std::path::PathBuf {
    let widget =
        json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1}});
    cluster.file(&format!("{name}.json"), &widget.to_string())
}

/// Waits until kubectl knows the kind.
fn wait_for_kind(cluster: &TestCluster) {
    eventually("the kind in discovery", || {
        let out = cluster.kubectl(&["api-resources", "--api-group", GROUP, "--no-headers", "--cached=false"]);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        if said.starts_with("widgets") { Ok(()) } else { Err(said + &String::from_utf8_lossy(&out.stderr)) }
    });
}

fn names(value: &Value, of: &str) -> Vec<String> {
    let items = value[of].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().or(item["metadata"]["name"].as_str()).unwrap_or_default().into()).collect()
}

#[test]
fn every_group_version_of_the_server_has_its_api_service() {
    let cluster = TestCluster::control_plane();
    let shown = cluster.ok(&["get", "apiservices"]);
    let mut lines = shown.lines();
    let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "SERVICE", "AVAILABLE", "AGE"]);
    let apps: Vec<&str> = lines.find(|line| line.starts_with("v1.apps")).unwrap().split_whitespace().collect();
    assert_eq!(apps[..3], ["v1.apps", "Local", "True"]);
    let apps = cluster.json(&["apiservice", "v1.apps"]);
    assert_eq!(apps["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"}));
    let spec = json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15});
    assert_eq!(apps["spec"], spec);
    let condition = &apps["status"]["conditions"][0];
    assert_eq!((&condition["reason"], &condition["status"]), (&json!("Local"), &json!("True")));
    let core = cluster.json(&["apiservice", "v1."]);
    assert_eq!(core["spec"]["groupPriorityMinimum"], 18_000);
    // What is gone comes again.
    cluster.ok(&["delete", "apiservice", "v1.apps"]);
    cluster.wait_for("v1.apps", &["get", "apiservice", "v1.apps", "-o", "jsonpath={.metadata.name}"]);
    // Those of custom resources come and go with them.
    cluster.apply(&definition("gadgets", "Gadget"));
    let managed = "jsonpath={.metadata.labels} {.spec.groupPriorityMinimum} {.spec.versionPriority}";
    let wanted = "{\"kube-aggregator.kubernetes.io/automanaged\":\"true\"} 1000 100";
    let name = format!("v1.{GROUP}");
    cluster.wait_for(wanted, &["get", "apiservice", &name, "-o", managed]);
    cluster.ok(&["patch", "apiservice", &name, "--type=merge", "-p", "{\"spec\":{\"versionPriority\":7}}"]);
    cluster.wait_for(wanted, &["get", "apiservice", &name, "-o", managed]);
    cluster.ok(&["delete", "crd", &format!("gadgets.{GROUP}")]);
    cluster.wait_for("", &["get", "apiservice", &name, "-o", "name", "--ignore-not-found"]);
}

fn definition(plural: &str, kind: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.{GROUP}}}\n\
         spec: {{group: {GROUP}, scope: Namespaced, names: {{plural: {plural}, kind: {kind}}}, versions: [{{name: v1, served: true, storage: true, \
         schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}]}}\n"
    )
}

#[test]
fn requests_are_passed_on_by_the_name_of_who_asks() {
    let cluster = TestCluster::control_plane();
    let extension = Extension::start(&cluster);
    extension.register(&cluster);
    wait_for_kind(&cluster);
    let out = cluster.kubectl(&["create", "-f", widget(&cluster, "a").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("Warning: widgets are old"), "{said}");
    let a = cluster.json(&["widget", "a"]);
    assert_eq!((&a["spec"]["size"], &a["metadata"]["annotations"]["made-by"]), (&json!(1), &json!("system:admin")));
    cluster.ok(&["patch", "wi", "a", "--type=merge", "-p", "{\"spec\":{\"size\":2}}"]);
    cluster.ok(&["label", "widget", "a", "color=red"]);
    assert_eq!(cluster.ok(&["get", "widgets", "-A", "-o", "jsonpath={.items[*].spec.size}"]), "2");
    // What a client says of itself in these headers is not believed; what it is known by is not passed on.
    let http = Http::of(&cluster);
    let arguments = [
        "-H",
        "X-Remote-User: root",
        "-H",
        "X-Remote-Group: system:nobody",
        "-H",
        "X-Remote-Extra-A: b",
        "-H",
        "Audit-ID: mine",
    ];
    let answer = http.ask("--http2", &format!("{WIDGETS}/a?x=1&y=%2F"), &arguments);
    assert_eq!(answer.code, 200, "{answer:?}");
    let asked = extension.asked("y=%2F").pop().unwrap();
    assert_eq!((&*asked.method, &*asked.path), ("GET", &*format!("{WIDGETS}/a?x=1&y=%2F")));
    assert_eq!(asked.header("x-remote-user"), "system:admin");
    assert_eq!(asked.header("x-remote-group"), "system:masters,system:authenticated");
    assert_eq!((asked.header("x-remote-extra-a"), asked.header("authorization")), (String::new(), String::new()));
    assert_eq!((asked.header("audit-id"), asked.header("x-forwarded-proto")), ("mine".into(), "https".into()));
    assert!(!asked.header("x-forwarded-for").is_empty());
    // As somebody else, with what is said of them.
    let impersonated = ["--as=jane", "--as-uid=7", "--as-group=dev", "--as-user-extra=example.com/x=y"];
    let said = cluster.fails(&[&["get", "widget", "a"][..], &impersonated].concat());
    assert!(said.contains("widgets.widgets.example.com \"a\" is forbidden: User \"jane\" cannot get"), "{said}");
    cluster.ok(&["create", "clusterrole", "see", "--verb=get", &format!("--resource=widgets.{GROUP}")]);
    cluster.ok(&["create", "clusterrolebinding", "see", "--clusterrole=see", "--group=dev"]);
    cluster.ok(&[&["get", "widget", "a", "-o", "name"][..], &impersonated].concat());
    let asked = extension.asked("/widgets/a").pop().unwrap();
    assert_eq!((asked.header("x-remote-user"), asked.header("x-remote-uid")), ("jane".into(), "7".into()));
    assert_eq!(asked.header("x-remote-extra-example.com%2fx"), "y");
    // What the other server says, it says itself.
    let said = cluster.fails(&["get", "widget", "none"]);
    assert!(said.contains("the widget says NotFound"), "{said}");
    // But where else the client should go, which it would with what it has sent here (CVE-2022-3172).
    let moved = http.ask("--http2", &format!("{WIDGETS}/a/elsewhere"), &[]);
    let wanted = "the backend attempted to redirect this request, which is not permitted";
    assert_eq!((moved.code, &*moved.body), (502, wanted));
    cluster.ok(&["delete", "widget", "a"]);
    assert_eq!(cluster.ok(&["get", "widgets", "-o", "name"]), "");
    assert_eq!(extension.strangers(), 0);
    extension.come_as_a_stranger();
    eventually("a stranger is one", || match extension.strangers() {
        1 => Ok(()),
        other => Err(other.to_string()),
    });
}

#[test]
fn what_is_watched_comes_as_it_happens() {
    let cluster = TestCluster::control_plane();
    let extension = Extension::start(&cluster);
    extension.register(&cluster);
    wait_for_kind(&cluster);
    let mut watching = cluster
        .kubectl_command(&["get", "widgets", "-o", "name", "--watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for name in ["one", "two"] {
        cluster.ok(&["create", "-f", widget(&cluster, name).to_str().unwrap()]);
        assert_eq!(lines.next().unwrap().unwrap(), format!("widget.{GROUP}/{name}"));
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
}

/// A connection of the administrator.
fn connection(cluster: &TestCluster) -> StreamOwned<ClientConnection, TcpStream> {
    let tls = |name: &str| std::fs::read(cluster.data_dir().join("server/tls").join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&tls("server-ca.crt")).unwrap()).unwrap();
    let chain = CertificateDer::pem_slice_iter(&tls("client-admin.crt")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&tls("client-admin.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", cluster.port())).unwrap())
}

#[test]
fn protocols_are_switched_through_the_server() {
    let cluster = TestCluster::control_plane();
    let extension = Extension::start(&cluster);
    extension.register(&cluster);
    let mut stream = BufReader::new(connection(&cluster));
    let request =
        format!("GET {WIDGETS}/a/echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: echo"), "{head}");
    for text in ["hello", "again"] {
        stream.get_mut().write_all(text.as_bytes()).unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(std::str::from_utf8(&said).unwrap(), text);
    }
    let asked = extension.asked("/echo").pop().unwrap();
    assert_eq!((asked.header("x-remote-user"), asked.header("upgrade")), ("system:admin".into(), "echo".into()));
}

#[test]
fn the_kinds_of_others_are_discovered_and_described() {
    let cluster = TestCluster::control_plane();
    let extension = Extension::start(&cluster);
    extension.register(&cluster);
    wait_for_kind(&cluster);
    let raw = |path: &str| serde_json::from_str::<Value>(&cluster.ok(&["get", "--raw", path])).unwrap();
    // By priority: behind what is built in, before custom resources.
    cluster.apply(&definition("gadgets", "Gadget").replace(GROUP, "aaa.example.com"));
    eventually("the custom resource in its place", || {
        let groups = names(&raw("/apis"), "groups");
        let place = |name: &str| groups.iter().position(|group| group == name);
        let order = [place("apiregistration.k8s.io"), place("apps"), place(GROUP), place("aaa.example.com")];
        let fine = order[0] == Some(0) && order.iter().all(Option::is_some) && order.is_sorted();
        if fine { Ok(()) } else { Err(format!("{groups:?}")) }
    });
    let group = raw(&format!("/apis/{GROUP}"));
    assert_eq!(group["preferredVersion"]["groupVersion"], format!("{GROUP}/v1"));
    assert_eq!(names(&raw(&format!("/apis/{GROUP}/v1")), "resources"), ["widgets"]);
    let http = Http::of(&cluster);
    let shown = version(&http);
    assert_eq!((&shown["freshness"], &shown["resources"][0]["resource"]), (&json!("Current"), &json!("widgets")));
    // From a server that has no aggregated discovery.
    extension.aggregate(false);
    cluster.ok(&["annotate", "apiservice", &format!("v1.{GROUP}"), "a=b"]);
    let spec = "{\"spec\":{\"versionPriority\":16}}";
    cluster.ok(&["patch", "apiservice", &format!("v1.{GROUP}"), "--type=merge", "-p", spec]);
    eventually("the list of the group version", || {
        if !extension
            .asked(&format!("/apis/{GROUP}/v1"))
            .iter()
            .any(|asked| asked.header("accept") == "application/json")
        {
            return Err("not asked for".into());
        }
        let version = version(&http);
        if version["resources"][0]["shortNames"] == json!(["wi"]) { Ok(()) } else { Err(version.to_string()) }
    });
    // Descriptions.
    let index = raw("/openapi/v3");
    let place = index["paths"][format!("apis/{GROUP}/v1")]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(place, format!("/openapi/v3/apis/{GROUP}/v1?hash=7"));
    assert_ne!(index["paths"]["api/v1"]["serverRelativeURL"], "/stolen");
    assert_eq!(raw(place)["info"]["title"], "widgets");
    let said = cluster.ok(&["explain", "widgets.spec.size"]);
    assert!(said.contains("How large the widget is."), "{said}");
    let version_2 = raw("/openapi/v2");
    assert!(version_2["definitions"]["com.example.v1.Widget"].is_object());
    assert!(version_2["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    assert!(version_2["paths"][format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/widgets")].is_object());
    assert!(version_2["paths"]["/apis/apps/v1/stolen"].is_null() && version_2["definitions"]["unused"].is_null());
}

/// What aggregated discovery says of the group version.
fn version(http: &Http) -> Value {
    let accept = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let document = http.ask("--http2", "/apis", &["-H", accept]).json();
    let items = document["items"].as_array().unwrap();
    items.iter().find(|item| item["metadata"]["name"] == GROUP).unwrap()["versions"][0].clone()
}

fn message(cluster: &TestCluster) -> String {
    cluster.ok(&["get", "apiservice", &format!("v1.{GROUP}"), "-o", "jsonpath={.status.conditions[0].message}"])
}

#[test]
fn who_cannot_be_reached_is_said_to_be_unavailable_and_hurts_nobody_else() {
    let cluster = TestCluster::control_plane();
    let extension = Extension::start(&cluster);
    cluster.apply(&extension.api_service(extension.bundle()));
    extension.wait(&cluster, "False ServiceNotFound");
    assert_eq!(message(&cluster), "service/api in \"default\" is not present");
    let http = Http::of(&cluster);
    let asked = http.ask("--http2", WIDGETS, &[]);
    assert_eq!((asked.code, &*asked.body), (503, "service unavailable\n"));
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {ports: [{name: https, port: 80}]}\n");
    extension.wait(&cluster, "False ServicePortError");
    assert_eq!(message(&cluster), "service/api in \"default\" is not listening on port 443");
    cluster.ok(&["delete", "service", "api"]);
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {ports: [{name: https, port: 443}]}\n");
    extension.wait(&cluster, "False EndpointsNotFound");
    assert_eq!(message(&cluster), "cannot find endpointslices for service/api in \"default\"");
    cluster.apply(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}\n\
         ports: [{name: other, port: 1}]\nendpoints: [{addresses: [10.0.0.1]}]\n",
    );
    extension.wait(&cluster, "False MissingEndpoints");
    let wanted = "endpointslices for service/api in \"default\" have no addresses with port name \"https\"";
    assert_eq!(message(&cluster), wanted);
    // Others are discovered, and what is missing is marked.
    let listed = cluster.ok(&["api-resources", "--cached=false"]);
    assert!(listed.contains("deployments") && !listed.contains("widgets"), "{listed}");
    assert_eq!(version(&http), json!({"version": "v1", "freshness": "Stale"}));
    cluster.ok(&["create", "deployment", "d", "--image=example.com/x"]);
    cluster.wait_for("1", &["get", "replicasets", "-o", "jsonpath={.items[*].spec.replicas}"]);
    // A namespace waits for what may be in there, and says so.
    cluster.ok(&["create", "namespace", "doomed"]);
    cluster.ok(&["create", "configmap", "m", "-n", "doomed"]);
    cluster.ok(&["delete", "namespace", "doomed", "--wait=false"]);
    let reason = "jsonpath={.status.conditions[?(@.type==\"NamespaceDeletionDiscoveryFailure\")].reason}";
    cluster.wait_for("DiscoveryFailed", &["get", "namespace", "doomed", "-o", reason]);
    cluster.wait_for("", &["get", "configmap", "m", "-n", "doomed", "-o", "name", "--ignore-not-found"]);
    let metric = format!("aggregator_unavailable_apiservice{{name=\"v1.{GROUP}\"}} 1");
    assert!(cluster.ok(&["get", "--raw", "/metrics"]).contains(&metric));
    // It is there at last, and found at once.
    extension.endpoints(&cluster);
    extension.wait(&cluster, "True Passed");
    assert_eq!(message(&cluster), "all checks passed");
    cluster.wait_for("", &["get", "namespace", "doomed", "-o", "name", "--ignore-not-found"]);
}

#[test]
fn nobody_is_believed_to_be_who_they_are_not() {
    let cluster = TestCluster::control_plane();
    let extension = Extension::start(&cluster);
    extension.expose(&cluster);
    let other = Extension::start(&cluster);
    cluster.apply(&extension.api_service(other.bundle()));
    extension.wait(&cluster, "False FailedDiscoveryCheck");
    let said = message(&cluster);
    let path = format!("/apis/{GROUP}/v1");
    assert!(said.starts_with("failing or missing response from https://"), "{said}");
    let end = format!("{path}\": tls: failed to verify certificate: x509: certificate signed by unknown authority");
    assert!(said.contains(&format!("{path}: Get \"https://")) && said.ends_with(&end), "{said}");
    // Whoever wants to may believe everybody.
    let insecure = "{\"spec\":{\"caBundle\":null,\"insecureSkipTLSVerify\":true}}";
    cluster.ok(&["patch", "apiservice", &format!("v1.{GROUP}"), "--type=merge", "-p", insecure]);
    extension.wait(&cluster, "True Passed");
    wait_for_kind(&cluster);
    cluster.ok(&["create", "-f", widget(&cluster, "a").to_str().unwrap()]);
}

#[test]
fn a_server_that_fails_or_talks_without_end_does_no_harm() {
    let cluster = TestCluster::control_plane();
    let extension = Extension::start(&cluster);
    extension.register(&cluster);
    wait_for_kind(&cluster);
    extension.be(Manner::Endless);
    let spec = "{\"spec\":{\"versionPriority\":16}}";
    cluster.ok(&["patch", "apiservice", &format!("v1.{GROUP}"), "--type=merge", "-p", spec]);
    let http = Http::of(&cluster);
    eventually("a document that is given up", || match version(&http) {
        stale if stale["freshness"] == "Stale" => Ok(()),
        other => Err(other.to_string()),
    });
    extension.be(Manner::Unwell);
    cluster.ok(&[
        "patch",
        "apiservice",
        &format!("v1.{GROUP}"),
        "--type=merge",
        "-p",
        "{\"spec\":{\"versionPriority\":17}}",
    ]);
    extension.wait(&cluster, "False FailedDiscoveryCheck");
    let said = message(&cluster);
    assert!(said.contains(": bad status from https://") && said.ends_with(": 503"), "{said}");
    let counter =
        format!("aggregator_unavailable_apiservice_total{{name=\"v1.{GROUP}\",reason=\"FailedDiscoveryCheck\"}} ");
    // Counted when it has been written; on a slow machine the endless answers were one time too many already.
    eventually("the count of that", || {
        let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
        let count = metrics.lines().find_map(|line| line.strip_prefix(&counter)?.parse::<u64>().ok());
        if count.is_some_and(|count| count > 0) { Ok(()) } else { Err(metrics) }
    });
    extension.be(Manner::Helpful);
    extension.wait(&cluster, "True Passed");
    wait_for_kind(&cluster);
}

#[test]
fn a_group_version_of_a_custom_resource_is_taken_over_and_given_back() {
    let mut cluster = TestCluster::control_plane();
    cluster.apply(&definition("widgets", "Widget"));
    let name = format!("v1.{GROUP}");
    cluster.wait_for("Local", &["get", "apiservice", &name, "-o", "jsonpath={.status.conditions[0].reason}"]);
    cluster.ok(&["wait", "--for=condition=Established", "crd", &format!("widgets.{GROUP}")]);
    cluster.ok(&["create", "-f", widget(&cluster, "own").to_str().unwrap()]);
    let extension = Extension::start(&cluster);
    extension.expose(&cluster);
    // Without the label it is nobody's but the client's.
    let manifest = cluster.file("service.yaml", &extension.api_service(extension.bundle()));
    cluster.ok(&["replace", "-f", manifest.to_str().unwrap()]);
    extension.wait(&cluster, "True Passed");
    cluster.wait_for("", &["get", "widgets", "-o", "name"]);
    cluster.ok(&["create", "-f", widget(&cluster, "theirs").to_str().unwrap()]);
    assert_eq!(cluster.ok(&["get", "widgets", "-o", "name"]).trim(), format!("widget.{GROUP}/theirs"));
    // Also from the first moment after a start.
    assert!(cluster.stop());
    cluster.start();
    cluster.wait_for(&format!("widget.{GROUP}/theirs"), &["get", "widgets", "-o", "name"]);
    cluster.ok(&["delete", "apiservice", &name]);
    cluster.wait_for(&format!("widget.{GROUP}/own"), &["get", "widgets", "-o", "name"]);
    cluster.wait_for("Local", &["get", "apiservice", &name, "-o", "jsonpath={.status.conditions[0].reason}"]);
}

/// Those who put a server of their own before this one.
#[test]
fn who_asks_is_what_a_server_in_front_says() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    let tls = cluster.data_dir().join("server/tls");
    let file = |name: &str| tls.join(name).to_string_lossy().into_owned();
    let review = |more: &[&str]| {
        let body = "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"SelfSubjectReview\"}";
        let all = [&["-H", "Content-Type: application/json", "--data-binary", body], more].concat();
        http.ask_as_nobody("--http2", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &all)
    };
    let (certificate, key) = (file("client-auth-proxy.crt"), file("client-auth-proxy.key"));
    let front = ["--cert", &*certificate, "--key", &*key];
    let says = [
        "-H",
        "X-Remote-User: jane",
        "-H",
        "X-Remote-Group: a",
        "-H",
        "X-Remote-Group: b",
        "-H",
        "X-Remote-Extra-Example.com%2Fx: y",
    ];
    let answer = review(&[&front[..], &says].concat());
    assert_eq!(answer.code, 201, "{answer:?}");
    let user = answer.json()["status"]["userInfo"].clone();
    assert_eq!((&user["username"], &user["groups"]), (&json!("jane"), &json!(["a", "b", "system:authenticated"])));
    assert_eq!(user["extra"], json!({"example.com/x": ["y"]}));
    assert_eq!(review(&front).code, 401, "it is nobody itself");
    assert_eq!(review(&says).code, 401, "nobody is believed without a certificate");
    let (certificate, key) = (file("client-admin.crt"), file("client-admin.key"));
    let answer = review(&[&["--cert", &*certificate, "--key", &*key], &says[..]].concat());
    assert_eq!(answer.json()["status"]["userInfo"]["username"], "system:admin", "nor with any other");
}
