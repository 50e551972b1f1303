//! Kinds that clients define, through kubectl.

use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::webhook::{Reply, Webhook};
use crate::support::{TestCluster, eventually};

/// A definition of a namespaced kind, with more for its first version.
fn definition(plural: &str, kind: &str, version: &Value) -> Value {
    let singular = kind.to_lowercase();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.org")},
        "spec": {"group": "example.org", "scope": "Namespaced",
            "names": {"plural": plural, "singular": singular, "kind": kind, "listKind": format!("{kind}List"),
                "shortNames": [format!("{}x", &singular[..2])], "categories": ["all"]},
            "versions": [version]}})
}

fn boats() -> Value {
    definition(
        "boats",
        "Boat",
        &json!({"name": "v1", "served": true, "storage": true,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.sails", "statusReplicasPath": ".status.sails",
            "labelSelectorPath": ".status.selector"}},
        "additionalPrinterColumns": [{"name": "Sails", "type": "integer", "jsonPath": ".spec.sails"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}],
        "selectableFields": [{"jsonPath": ".spec.colour"}],
        "schema": {"openAPIV3Schema": {"type": "object", "description": "A boat floats.", "properties": {
            "spec": {"type": "object", "required": ["sails"], "properties": {
                "sails": {"type": "integer", "minimum": 0, "maximum": 9, "description": "How many there are."},
                "colour": {"type": "string", "enum": ["red", "white"], "default": "white"},
                "crew": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                    "type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "role": {"type": "string", "default": "sailor"}}}}}},
            "status": {"type": "object", "properties": {"sails": {"type": "integer"}, "selector": {"type": "string"},
                "conditions": {"type": "array", "items": {"type": "object", "properties": {
                    "type": {"type": "string"}, "status": {"type": "string"}}}}}},
        }}}}),
    )
}

fn boat(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "example.org/v1", "kind": "Boat", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
        .to_string()
}

fn define(cluster: &TestCluster, definition: &Value) {
    cluster.apply(&definition.to_string());
    let name = format!("crd/{}", definition["metadata"]["name"].as_str().unwrap());
    cluster.ok(&["wait", "--for=condition=Established", &name, "--timeout=10s"]);
}

/// From the definition to the last object: what kubectl's users do with them.
#[test]
fn a_kind_is_defined_used_and_deleted() {
    let cluster = TestCluster::control_plane();
    define(&cluster, &boats());
    // At once: whoever was told that it is established finds it.
    let file = cluster.file("a.json", &boat("a", &json!({"sails": 2, "crew": [{"name": "x"}]})));
    cluster.ok(&["create", "-f", file.to_str().unwrap()]);
    let made = cluster.json(&["boat", "a"]);
    assert_eq!(made["spec"], json!({"sails": 2, "colour": "white", "crew": [{"name": "x", "role": "sailor"}]}));
    assert_eq!((&made["metadata"]["generation"], made.get("status")), (&json!(1), None));
    // Strict as kubectl asks for it, and what a schema says.
    let file = cluster.file("bad.json", &boat("b", &json!({"sails": 2, "oars": 4})));
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains(r#"strict decoding error: unknown field "spec.oars""#), "{said}");
    let file = cluster.file("bad.json", &boat("b", &json!({"sails": 10, "colour": "blue"})));
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    for wanted in [
        "spec.sails: Invalid value: 10: spec.sails in body should be less than or equal to 9",
        r#"spec.colour: Unsupported value: "blue": supported values: "red", "white""#,
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    let twice = json!({"sails": 1, "crew": [{"name": "x"}, {"name": "x"}]});
    let file = cluster.file("bad.json", &boat("b", &twice));
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains(r#"spec.crew[1]: Duplicate value: {"name":"x"}"#), "{said}");
    // Columns, names, categories, fields.
    let shown = cluster.ok(&["get", "box"]);
    let cells: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(cells, ["NAME", "SAILS", "READY", "a", "2"], "{shown}");
    assert!(cluster.ok(&["get", "all", "-o", "name"]).contains("boat.example.org/a"));
    assert_eq!(
        cluster.ok(&["get", "boats", "--field-selector=spec.colour=white", "-o", "name"]).trim(),
        "boat.example.org/a"
    );
    assert_eq!(cluster.ok(&["get", "boats", "--field-selector=spec.colour=red", "-o", "name"]), "");
    let said = cluster.fails(&["get", "boats", "--field-selector=spec.sails=2"]);
    assert!(said.contains("field label not supported: spec.sails"), "{said}");
    let explained = cluster.ok(&["explain", "boat.spec"]);
    assert!(explained.contains("How many there are.") && explained.contains("-required-"), "{explained}");
    // Status and scale are their own.
    let status = r#"{"status":{"sails":2,"conditions":[{"type":"Ready","status":"True"}]},"spec":{"sails":7}}"#;
    cluster.ok(&["patch", "boat", "a", "--subresource=status", "--type=merge", "-p", status]);
    let made = cluster.json(&["boat", "a"]);
    assert_eq!(
        (&made["spec"]["sails"], &made["status"]["sails"], &made["metadata"]["generation"]),
        (&json!(2), &json!(2), &json!(1))
    );
    cluster.ok(&["scale", "boat/a", "--replicas=5"]);
    let made = cluster.json(&["boat", "a"]);
    assert_eq!((&made["spec"]["sails"], &made["metadata"]["generation"]), (&json!(5), &json!(2)));
    // Server-side apply knows the keys of its lists.
    let crew = boat("a", &json!({"sails": 5, "crew": [{"name": "y", "role": "cook"}]}));
    let file = cluster.file("crew.json", &crew);
    cluster.ok(&["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", file.to_str().unwrap()]);
    let crew: Vec<Value> =
        cluster.json(&["boat", "a"])["spec"]["crew"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(crew, ["x", "y"]);
    // The definition takes its objects with it, those with finalizers when these are done.
    cluster.ok(&["patch", "boat", "a", "--type=merge", "-p", r#"{"metadata":{"finalizers":["example.org/wait"]}}"#]);
    cluster.ok(&["delete", "crd", "boats.example.org", "--wait=false"]);
    cluster.wait_for(
        "InstanceDeletionInProgress",
        &["get", "crd", "boats.example.org", "-o", r#"jsonpath={.status.conditions[?(@.type=="Terminating")].reason}"#],
    );
    let file = cluster.file("late.json", &boat("late", &json!({"sails": 1})));
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains("create not allowed while custom resource definition is terminating"), "{said}");
    cluster.ok(&["patch", "boat", "a", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    cluster.ok(&["wait", "--for=delete", "crd/boats.example.org", "--timeout=20s"]);
    assert_eq!(Http::of(&cluster).ask("--http2", "/apis/example.org/v1/boats", &[]).code, 404);
    assert_eq!(Http::of(&cluster).ask("--http2", "/apis/example.org", &[]).code, 404);
}

/// A definition changes while its objects are there: what they lack is filled in, what became unknown is gone, versions come and go.
#[test]
fn definitions_change_under_their_objects() {
    let mut cluster = TestCluster::control_plane();
    let schema = |fields: Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}});
    let mut cars = definition(
        "cars",
        "Car",
        &json!({"name": "v1", "served": true, "storage": true,
        "schema": schema(json!({"wheels": {"type": "integer"}, "radio": {"type": "string"}}))}),
    );
    define(&cluster, &cars);
    let car = json!({"apiVersion": "example.org/v1", "kind": "Car", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"wheels": 4, "radio": "on"}});
    cluster.apply(&car.to_string());
    let stored_version = cluster.json(&["car", "a"])["metadata"]["resourceVersion"].clone();
    cars["spec"]["versions"][0]["schema"] =
        schema(json!({"wheels": {"type": "integer"}, "doors": {"type": "integer", "default": 5}}));
    cars["spec"]["versions"].as_array_mut().unwrap().push(json!({"name": "v2", "served": true, "storage": false,
        "deprecated": true, "schema": schema(json!({"wheels": {"type": "integer"}}))}));
    cluster.apply(&cars.to_string());
    let shown = eventually("the new schema counts", || {
        let car = cluster.json(&["car", "a"]);
        if car["spec"] == json!({"wheels": 4, "doors": 5}) { Ok(car) } else { Err(car.to_string()) }
    });
    assert_eq!(shown["metadata"]["resourceVersion"], stored_version, "nobody wrote it");
    let http = Http::of(&cluster);
    let in_v2 = http.ask("--http2", "/apis/example.org/v2/namespaces/default/cars/a", &[]);
    assert_eq!((in_v2.code, &in_v2.json()["spec"]), (200, &json!({"wheels": 4})));
    let warned = cluster.kubectl(&["get", "cars.v2.example.org"]).stderr;
    let warned = String::from_utf8_lossy(&warned);
    assert!(warned.contains("Warning: example.org/v2 Car is deprecated"), "{warned}");
    // Another version is stored from now on; what was stored before is read in it.
    for (at, storage) in [(0, false), (1, true)] {
        cars["spec"]["versions"][at]["storage"] = json!(storage);
    }
    cluster.apply(&cars.to_string());
    cluster.wait_for("[\"v1\",\"v2\"]", &["get", "crd", "cars.example.org", "-o", "jsonpath={.status.storedVersions}"]);
    cluster.ok(&["annotate", "cars.v1.example.org", "a", "touched=yes"]);
    assert_eq!(cluster.json(&["cars.v2.example.org", "a"])["spec"], json!({"wheels": 4}));
    // All of it is there after a power cut.
    cluster.kill();
    cluster.start();
    let car = cluster.json(&["cars.v1.example.org", "a"]);
    assert_eq!((&car["spec"]["wheels"], &car["metadata"]["annotations"]["touched"]), (&json!(4), &json!("yes")));
    // A version that is served no more is gone, and the kind is not.
    cars["spec"]["versions"][0]["served"] = json!(false);
    cluster.apply(&cars.to_string());
    eventually("v1 is gone", || {
        let answer = Http::of(&cluster).ask("--http2", "/apis/example.org/v1/namespaces/default/cars/a", &[]);
        if answer.code == 404 { Ok(()) } else { Err(answer.code.to_string()) }
    });
    assert_eq!(cluster.json(&["cars.v2.example.org", "a"])["spec"]["wheels"], json!(4));
}

/// Names that another kind of the group has are not given twice, and are free when that goes.
#[test]
fn names_are_given_once() {
    let cluster = TestCluster::control_plane();
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let first = definition("boats", "Boat", &version);
    define(&cluster, &first);
    let mut second = definition("ships", "Ship", &version);
    second["spec"]["names"]["kind"] = json!("Boat");
    second["spec"]["names"]["shortNames"] = json!(["sh"]);
    second["spec"]["names"]["categories"] = json!(null);
    cluster.apply(&second.to_string());
    let condition = r#"jsonpath={.status.conditions[?(@.type=="NamesAccepted")].reason}"#;
    cluster.wait_for("KindConflict", &["get", "crd", "ships.example.org", "-o", condition]);
    assert_eq!(Http::of(&cluster).ask("--http2", "/apis/example.org/v1/ships", &[]).code, 404);
    cluster.ok(&["delete", "crd", "boats.example.org"]);
    cluster.ok(&["wait", "--for=condition=Established", "crd/ships.example.org", "--timeout=10s"]);
    assert_eq!(cluster.ok(&["get", "ships", "-A", "-o", "name"]), "");
}

/// A webhook turns the versions of a kind into each other, for reads, lists, watches and writes; without it, what is stored in another version cannot
/// be read, and all else goes on.
#[test]
fn a_webhook_converts_between_versions() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|path, request| {
        if path == "/refuse" {
            return Reply::Response(json!({"result": {"status": "Failure", "message": "not today"}}));
        }
        let to = request["desiredAPIVersion"].as_str().unwrap();
        let convert = |object: &Value| {
            let mut object = object.clone();
            let spec = object["spec"].clone();
            object["spec"] = match to {
                "example.org/v2" => {
                    let (host, port) = spec["address"].as_str().unwrap().split_once(':').unwrap();
                    json!({"host": host, "port": port.parse::<u16>().unwrap()})
                }
                _ => json!({"address": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"])}),
            };
            object["apiVersion"] = json!(to);
            object
        };
        let converted: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
        Reply::Response(json!({"result": {"status": "Success"}, "convertedObjects": converted}))
    });
    let schema = |fields: Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}});
    let mut doors = definition(
        "doors",
        "Door",
        &json!({"name": "v1", "served": true, "storage": true, "schema": schema(json!({"address": {"type": "string"}})),
            "selectableFields": [{"jsonPath": ".spec.address"}]}),
    );
    doors["spec"]["versions"].as_array_mut().unwrap().push(json!({"name": "v2", "served": true, "storage": false,
        "selectableFields": [{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.port"}],
        "schema": schema(json!({"host": {"type": "string"}, "port": {"type": "integer"}}))}));
    let converts = |path: &str| {
        let client = json!({"url": format!("https://127.0.0.1:{}{path}", hook.port()), "caBundle": hook.bundle()});
        json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}})
    };
    doors["spec"]["conversion"] = converts("/convert");
    define(&cluster, &doors);
    let door = |version: &str, name: &str, spec: Value| {
        let meta = json!({"name": name, "namespace": "default"});
        json!({"apiVersion": format!("example.org/{version}"), "kind": "Door", "metadata": meta, "spec": spec})
            .to_string()
    };
    cluster.apply(&door("v1", "a", json!({"address": "left:80"})));
    cluster.apply(&door("v2", "b", json!({"host": "right", "port": 81})));
    assert_eq!(cluster.json(&["doors.v2.example.org", "a"])["spec"], json!({"host": "left", "port": 80}));
    assert_eq!(cluster.json(&["doors.v1.example.org", "b"])["spec"], json!({"address": "right:81"}));
    let all = cluster.json(&["doors.v2.example.org"]);
    let hosts: Vec<&Value> = all["items"].as_array().unwrap().iter().map(|door| &door["spec"]["host"]).collect();
    assert_eq!(hosts, ["left", "right"]);
    cluster.ok(&["patch", "doors.v2.example.org", "a", "--type=merge", "-p", r#"{"spec":{"port":8080}}"#]);
    assert_eq!(cluster.json(&["doors.v1.example.org", "a"])["spec"], json!({"address": "left:8080"}));
    fields_of_each_version_select(&cluster);
    doors["spec"]["conversion"] = converts("/refuse");
    cluster.apply(&doors.to_string());
    let said = eventually("the other webhook is asked", || {
        let output = cluster.kubectl(&["get", "doors.v2.example.org", "a"]);
        if output.status.success() {
            Err("it is shown".to_owned())
        } else {
            Ok(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    assert!(said.contains("conversion webhook for example.org/v1, Kind=Door failed: not today"), "{said}");
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    for family in ["request_total", "duration_seconds_count"] {
        for labels in [
            r#"failure_type="",result="success""#,
            r#"failure_type="conversion_webhook_malformed_response_failure",result="failure""#,
        ] {
            let counted = format!("apiserver_conversion_webhook_{family}{{{labels}}}");
            assert!(metrics.contains(&counted), "{counted}");
        }
    }
    let of_doors = r#"apiserver_crd_conversion_webhook_duration_seconds_count{crd_name="doors.example.org",from_version="v1",succeeded="true",to_version="v2"}"#;
    assert!(metrics.contains(of_doors));
    assert_eq!(cluster.json(&["doors.v1.example.org", "a"])["spec"], json!({"address": "left:8080"}));
    cluster.ok(&["delete", "crd", "doors.example.org"]);
}

/// What an object is selected by are the fields of the version that is asked for, wherever conversion takes them. They were those of what is stored once, so
/// that a list by a field that only another version has was empty.
fn fields_of_each_version_select(cluster: &TestCluster) {
    let http = Http::of(cluster);
    let path = |query: &str| format!("/apis/example.org/v2/namespaces/default/doors?{query}");
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let get = |query: &str| http.ask("--http2", &path(query), &[]).json();
    let all = get("");
    assert_eq!(names(&get("fieldSelector=spec.host%3Dright")), ["b"]);
    assert_eq!(names(&get("fieldSelector=spec.host%21%3Dright,spec.port%3D8080,metadata.name%3Da")), ["a"]);
    let v1 = "/apis/example.org/v1/namespaces/default/doors?fieldSelector=spec.address%3Dright:81";
    assert_eq!(names(&http.ask("--http2", v1, &[]).json()), ["b"]);
    let (first, mut rest) = (get("fieldSelector=spec.port%21%3D1&limit=1"), Vec::new());
    let next = first["metadata"]["continue"].as_str().unwrap().to_owned();
    rest.extend(names(&get(&format!("fieldSelector=spec.port%21%3D1&limit=1&continue={next}"))));
    assert_eq!((names(&first), rest), (vec!["a".to_owned()], vec!["b".to_owned()]));
    cluster.ok(&["patch", "doors.v2.example.org", "b", "--type=merge", "-p", r#"{"spec":{"host":"left"}}"#]);
    cluster.ok(&["patch", "doors.v2.example.org", "b", "--type=merge", "-p", r#"{"spec":{"host":"right"}}"#]);
    let since = all["metadata"]["resourceVersion"].as_str().unwrap();
    let watched = |host: &str| {
        let query = format!("watch=1&timeoutSeconds=1&resourceVersion={since}&fieldSelector=spec.host%3D{host}");
        let lines = http.ask("--http2", &path(&query), &[]).body;
        let kinds: Vec<String> = lines
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                assert_eq!(event["object"]["spec"]["host"], host, "{line}");
                event["type"].as_str().unwrap().to_owned()
            })
            .collect();
        kinds
    };
    assert_eq!(watched("left"), ["ADDED", "DELETED"]);
}

/// Rules in CEL hold for objects, with their messages, and definitions with rules that make no sense are refused.
#[test]
fn rules_in_cel_hold() {
    let cluster = TestCluster::control_plane();
    let version = |rule: &str| {
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "x-kubernetes-validations": [
                {"rule": rule, "messageExpression": "self.min > 2 ? 'min is above max' : 'max is below min'"},
                {"rule": "self.max >= oldSelf.max", "message": "max may only grow"}],
                "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}}}}}}})
    };
    let bad = definition("ranges", "Range", &version("self.min <= self.maximum"));
    let file = cluster.file("bad.json", &bad.to_string());
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains("undefined field 'maximum'"), "{said}");
    define(&cluster, &definition("ranges", "Range", &version("self.min <= self.max")));
    let range = |min: i64, max: i64| {
        json!({"apiVersion": "example.org/v1", "kind": "Range", "metadata": {"name": "a", "namespace": "default"},
            "spec": {"min": min, "max": max}})
        .to_string()
    };
    let file = cluster.file("a.json", &range(3, 2));
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains("spec: Invalid value: min is above max"), "{said}");
    cluster.apply(&range(1, 2));
    let file = cluster.file("a.json", &range(1, 1));
    let said = cluster.fails(&["apply", "-f", file.to_str().unwrap()]);
    assert!(said.contains("spec: Invalid value: max may only grow"), "{said}");
}

/// What ten projects' definitions and their objects showed to be other than upstream's answers. Each of these was.
#[test]
fn answers_are_those_of_other_servers() {
    let cluster = TestCluster::control_plane();
    let version = json!({"name": "v1", "served": true, "storage": true, "deprecated": true, "deprecationWarning": "use rafts",
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "required": ["logs"], "properties": {"logs": {"type": "integer"}, "until": {"type": "string", "format": "date-time"}},
                "x-kubernetes-validations": [{"rule": "self.logs < 9", "message": "too many logs"}]},
            "status": {"type": "object", "default": {"seen": -1}, "properties": {"seen": {"type": "integer"}}}}}}});
    let old =
        json!({"name": "v0", "served": false, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let mut rafts = definition("rafts", "Raft", &version);
    rafts["spec"]["versions"].as_array_mut().unwrap().push(old);
    let mut lax = rafts.clone();
    lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        json!([]);
    define(&cluster, &lax);
    let http = Http::of(&cluster);
    let rafts_at = "/apis/example.org/v1/namespaces/default/rafts";
    let raft = |metadata: &Value, spec: &Value| {
        json!({"apiVersion": "example.org/v1", "kind": "Raft", "metadata": metadata, "spec": spec}).to_string()
    };
    let post = |path: &str, body: &str| http.send("POST", path, "application/json", body);
    // A status that nobody has written is what the schema says, though a creator sets none.
    let made = post(rafts_at, &raft(&json!({"name": "a"}), &json!({"logs": 10}))).json();
    assert_eq!(made["status"], json!({"seen": -1}));
    assert_eq!(http.ask("--http2", &format!("{rafts_at}/a"), &[]).json()["status"], json!({"seen": -1}));
    // Who is refused is warned as well.
    let answer = http.ask(
        "--http2",
        rafts_at,
        &[
            "-i",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            &raft(&json!({"name": "b"}), &json!({"oars": 1})),
        ],
    );
    for wanted in ["unknown field \\\"spec.oars\\\"", "use rafts", "422"] {
        assert!(answer.body.contains(wanted) || answer.code.to_string() == wanted, "{answer:?}");
    }
    // What a rule would refuse today, and nobody has changed, is let go with a warning.
    cluster.apply(&rafts.to_string());
    let labelled = eventually("the new rule", || {
        let out = cluster.kubectl(&["label", "raft", "a", "--overwrite", "x=y"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if said.contains("too many logs") { Ok(out.status.success()) } else { Err(said) }
    });
    assert!(labelled);
    // A subresource that the definition leaves out is missing of the object; a version that is not served is no page at all.
    let missing = http.ask("--http2", &format!("{rafts_at}/a/scale"), &[]).json();
    assert_eq!(missing["message"], "rafts.example.org \"a\" not found");
    assert_eq!(http.ask("--http2", "/apis/example.org/v0/rafts", &[]).body, "404 page not found\n");
    // A name that might have been made and is taken.
    let taken = post(rafts_at, &raft(&json!({"name": "a", "generateName": "b-"}), &json!({"logs": 1}))).json();
    assert_eq!(taken["details"]["retryAfterSeconds"], 1, "{taken}");
    // Applied nulls are values, and a text that has a format is any value to who merges, but not to the schema.
    let apply = |spec: &Value| {
        http.send(
            "PATCH",
            &format!("{rafts_at}/n?fieldManager=m"),
            "application/apply-patch+yaml",
            &raft(&json!({"name": "n"}), spec),
        )
        .json()
    };
    for (spec, wanted) in [
        (json!({"logs": 1, "until": null}), "spec.until in body must be of type string: \"null\""),
        (json!({"logs": 1, "until": 5}), "spec.until in body must be of type date-time: \"int64\""),
    ] {
        let said = apply(&spec);
        assert!(said["message"].as_str().unwrap().contains(wanted) && said["code"] == 422, "{said}");
    }
    let list = http.ask("--http2", rafts_at, &[]).json();
    assert_eq!(
        (&list["items"][0]["kind"], &list["items"][0]["apiVersion"]),
        (&json!("Raft"), &json!("example.org/v1"))
    );
}

/// A scale that does not say of which version it is meant for any, also where objects themselves may not be written so.
#[test]
fn a_scale_needs_no_version() {
    let cluster = TestCluster::control_plane();
    define(&cluster, &boats());
    cluster.apply(&boat("a", &json!({"sails": 2})));
    let http = Http::of(&cluster);
    let put = |replicas: i64| {
        let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "default"}, "spec": {"replicas": replicas}});
        let path = "/apis/example.org/v1/namespaces/default/boats/a/scale";
        http.send("PUT", path, "application/json", &scale.to_string()).json()
    };
    assert_eq!(put(5)["spec"]["replicas"], 5);
    assert_eq!(cluster.json(&["boat", "a"])["spec"]["sails"], 5);
    // What is wrong is said of the object, by its own words.
    let refused = put(-3);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains(".spec.sails: Invalid value: -3: should be a non-negative integer"),
        "{refused}"
    );
    assert_eq!(refused["details"]["kind"], "Boat");
}
