//! The same scenarios for every kind, made of one small object of it.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::scenario::{Scenario, Step, merge};

const KINDS: &str = include_str!("data/kinds.yaml");
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// One kind of `data/kinds.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    at: String,
    kind: String,
    plural: String,
    #[serde(default)]
    cluster: bool,
    /// How its objects are called, when that is not free.
    name: Option<String>,
    object: Value,
    change: Value,
    bad: Vec<Value>,
    status: Option<Value>,
    #[serde(default)]
    scale: bool,
    #[serde(default)]
    nocollection: bool,
    /// Controllers within upstream's server write its objects whenever they come to it: of these only what is refused is compared.
    #[serde(default)]
    restless: bool,
}

/// The scenarios of all kinds.
///
/// # Errors
/// When the file is no list of kinds.
pub fn scenarios() -> anyhow::Result<Vec<Scenario>> {
    let kinds: Vec<Kind> = serde_yaml::from_str(KINDS).context("kinds.yaml")?;
    let all = kinds.iter().flat_map(|kind| {
        let mut all = vec![kind.scenario("names", kind.names()), kind.scenario("values", kind.values())];
        if !kind.restless {
            all.push(kind.scenario("life", kind.life()));
            all.push(kind.scenario("reads", kind.reads()));
            all.push(kind.scenario("patches", kind.patches()));
            all.push(kind.scenario("ends", kind.ends()));
        }
        all
    });
    Ok(all.collect())
}

impl Kind {
    fn scenario(&self, part: &str, steps: Vec<Step>) -> Scenario {
        let version = self.at.rsplit('/').next().unwrap_or_default();
        // Kinds of the same name are told apart by their groups.
        let group = self.at.split('/').nth(2).filter(|_| self.at.starts_with("/apis")).unwrap_or("core");
        let group = group.split('.').next().unwrap_or_default();
        Scenario { name: format!("{}.{group}.{version}.{part}", self.plural), steps }
    }

    fn collection(&self) -> String {
        match self.cluster {
            true => format!("{}/{}", self.at, self.plural),
            false => format!("{}/namespaces/{{ns}}/{}", self.at, self.plural),
        }
    }

    /// Those of this scenario alone, where others make objects of the kind at the same time.
    fn own(&self, name: &str) -> String {
        format!("{}?fieldSelector=metadata.name%3D{}", self.collection(), self.named(name))
    }

    fn short(&self, name: &str) -> String {
        if self.cluster { format!("{name}-{{t}}") } else { name.to_owned() }
    }

    fn named(&self, name: &str) -> String {
        match &self.name {
            Some(form) => self.fill(form, name),
            None => self.short(name),
        }
    }

    fn fill(&self, text: &str, name: &str) -> String {
        // Numbers follow the letters of the name, so that no two names have the same one.
        let number = name.bytes().map(u32::from).fold(7, |sum, b| (sum * 31 + b) % 251) + 2;
        text.replace("{n}", &self.short(name).replace('-', "")).replace("{i}", &number.to_string())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{}", self.collection(), self.named(name))
    }

    fn version(&self) -> &str {
        self.at.trim_start_matches("/apis/").trim_start_matches("/api/")
    }

    /// A valid object.
    fn object(&self, name: &str) -> Value {
        let mut object = json!({
            "apiVersion": self.version(), "kind": self.kind,
            "metadata": {"name": self.named(name), "labels": {"letter": "{t}", "short": name}},
        });
        let fields: Value = serde_json::from_str(&self.fill(&self.object.to_string(), name)).unwrap_or_default();
        merge(&mut object, &fields);
        object
    }

    fn with(&self, name: &str, patch: &Value) -> Value {
        let mut object = self.object(name);
        merge(&mut object, patch);
        object
    }

    fn create(&self, step: &str, object: &Value) -> Step {
        Step::new(step, "POST", self.collection()).json(object)
    }

    fn patch(&self, step: &str, name: &str, kind: &str, patch: &Value) -> Step {
        Step::new(step, "PATCH", self.path(name)).header("content-type", kind).json(patch)
    }

    /// Created, read, replaced, deleted.
    fn life(&self) -> Vec<Step> {
        let (path, object) = (self.path("one"), self.object("one"));
        let dry = format!("{}?dryRun=All", self.collection());
        let get = |step: &str| Step::new(step, "GET", &path);
        let put = |step: &str, patch: Value| Step::new(step, "PUT", &path).last(patch);
        let remove = |step: &str| Step::new(step, "DELETE", &path);
        let mut steps = vec![
            get("get-missing"),
            Step::new("put-missing", "PUT", &path).json(&object),
            remove("delete-missing"),
            Step::new("create-dry", "POST", dry).json(&object),
            get("get-after-dry"),
            self.create("create", &object),
            self.create("create-again", &object),
            get("get"),
            put("put-same", Value::Null),
            put("put-dry", json!({"metadata": {"labels": {"dry": "run"}}})),
            get("get-after-dry-put"),
            put("put-changed", self.change.clone()),
            put(
                "put-labels",
                json!({"metadata": {"labels": {"l": "m"}, "annotations": {"n": "o"}, "finalizers": null}}),
            ),
            put("put-stale", json!({"metadata": {"resourceVersion": "1"}})),
            put("put-unversioned", json!({"metadata": {"resourceVersion": null}})),
            put("put-other-uid", json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}})),
            put("put-other-name", json!({"metadata": {"name": "other"}})),
            put("put-other-kind", json!({"kind": "Other"})),
            put("put-bad-label", json!({"metadata": {"labels": {"a b": "c"}}})),
        ];
        if let Some(status) = &self.status {
            let status = json!({"status": status});
            let at = format!("{path}/status");
            steps.extend([
                Step::new("status-get", "GET", &at),
                get("get-before-status"),
                Step::new("status-put", "PUT", &at).last(status.clone()),
                Step::new("status-put-labels", "PUT", &at).last(json!({"metadata": {"labels": {"from": "status"}}})),
                Step::new("status-merge", "PATCH", &at).header("content-type", MERGE).json(&status),
                Step::new("status-apply", "PATCH", format!("{at}?fieldManager=status&force=true"))
                    .header("content-type", APPLY)
                    .json(&json!({"apiVersion": self.version(), "kind": self.kind,
                                  "metadata": {"name": self.named("one")}, "status": status["status"]})),
                Step::new("status-wrong-type", "PATCH", &at).header("content-type", MERGE).json(&json!({"status": 5})),
                Step::new("status-delete", "DELETE", &at),
                Step::new("status-create", "POST", &at).json(&object),
            ]);
        }
        if self.scale {
            let at = format!("{path}/scale");
            steps.extend([
                Step::new("scale-get", "GET", &at),
                Step::new("scale-get-table", "GET", &at).accept(TABLE),
                Step::new("scale-put", "PUT", &at).json(
                    &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "one", "namespace": "{ns}"}, "spec": {"replicas": 4}})),
                Step::new("scale-merge", "PATCH", &at).header("content-type", MERGE).json(&json!({"spec": {"replicas": 5}})),
                Step::new("scale-negative", "PATCH", &at).header("content-type", MERGE).json(&json!({"spec": {"replicas": -5}})),
                Step::new("scale-stale", "PATCH", &at)
                    .header("content-type", MERGE)
                    .json(&json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 6}})),
                Step::new("scale-wrong-kind", "PUT", &at).json(&object),
            ]);
        }
        steps
    }

    /// All forms of objects and lists.
    fn reads(&self) -> Vec<Step> {
        let path = self.path("read");
        let own = self.own("read");
        let get = |step: &str, path: &str, accept: &str| Step::new(step, "GET", path).accept(accept);
        let watch = |more: &str| format!("{own}&watch=true&timeoutSeconds=1{more}");
        let mut steps = vec![
            self.create("create", &self.object("read")),
            get("table", &path, TABLE),
            get("table-no-object", &format!("{path}?includeObject=None"), TABLE),
            get("table-object", &format!("{path}?includeObject=Object"), TABLE),
            get("partial", &path, PARTIAL),
            get("yaml", &path, "application/yaml"),
            get("protobuf", &path, PROTOBUF),
            get(
                "partial-protobuf",
                &path,
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            ),
            get("unacceptable", &path, "text/html"),
            get("list", &own, "application/json"),
            get("list-table", &own, TABLE),
            get("list-partial", &own, PARTIAL_LIST),
            get("list-yaml", &own, "application/yaml"),
            get("list-protobuf", &own, PROTOBUF),
            get("list-cached", &format!("{own}&resourceVersion=0"), "application/json"),
            get("list-bad-field", &format!("{}?fieldSelector=spec.what%3D1", self.collection()), "application/json"),
            get("list-no-label", &format!("{}?labelSelector=letter%3Dnone", self.collection()), "application/json"),
            get("watch-json", &watch(""), "application/json"),
            get("watch-table", &watch("&resourceVersion=0"), TABLE),
            get("watch-partial", &watch(""), PARTIAL),
            get("watch-protobuf", &watch(""), "application/vnd.kubernetes.protobuf;stream=watch"),
            Step::new("post-to-object", "POST", &path).json(&self.object("read")),
            Step::new("put-to-list", "PUT", self.collection()).json(&self.object("read")),
            Step::new("patch-list", "PATCH", self.collection()).header("content-type", MERGE).json(&json!({})),
            Step::new("no-subresource", "GET", format!("{path}/nothing")),
        ];
        if !self.cluster {
            let all =
                format!("{}/{}?fieldSelector=metadata.namespace%3D{{ns}},metadata.name%3Dread", self.at, self.plural);
            steps.push(get("list-everywhere", &all, "application/json"));
            let nowhere = Step::new("create-nowhere", "POST", format!("{}/{}", self.at, self.plural));
            steps.push(nowhere.json(&self.object("read")));
        }
        steps
    }

    /// Each kind of patch.
    fn patches(&self) -> Vec<Step> {
        let name = "patched";
        let apply = |step: &str, query: &str, object: &Value| {
            let path = format!("{}{query}", self.path(name));
            Step::new(step, "PATCH", path).header("content-type", APPLY).json(object)
        };
        let object = self.object(name);
        let label = |value: &str| json!({"metadata": {"labels": {"k": value}}});
        let identity = json!({"apiVersion": self.version(), "kind": self.kind, "metadata": {"name": self.named(name)}});
        let labelled = |value: &str| {
            let mut object = identity.clone();
            merge(&mut object, &label(value));
            object
        };
        let set = |step: &str, op: Value| self.patch(step, name, JSON_PATCH, &op);
        vec![
            self.patch("merge-missing", name, MERGE, &label("a")),
            apply("apply-no-manager", "", &object),
            apply("apply-creates", "?fieldManager=m1", &object),
            apply("apply-again", "?fieldManager=m1", &object),
            apply("apply-other", "?fieldManager=m2", &labelled("x")),
            apply("apply-conflict", "?fieldManager=m3", &labelled("y")),
            apply("apply-force", "?fieldManager=m3&force=true", &labelled("y")),
            apply("apply-nothing", "?fieldManager=m3", &identity),
            apply(
                "apply-versioned",
                "?fieldManager=m3",
                &json!({"apiVersion": self.version(), "kind": self.kind, "metadata": {"name": self.named(name), "resourceVersion": "1"}}),
            ),
            apply(
                "apply-managed",
                "?fieldManager=m3",
                &json!({"apiVersion": self.version(), "kind": self.kind, "metadata": {"managedFields": [{"manager": "x"}]}}),
            ),
            apply("apply-no-kind", "?fieldManager=m3", &json!({"metadata": {"name": "x"}})),
            apply(
                "apply-unknown-field",
                "?fieldManager=m3&fieldValidation=Strict",
                &json!({"apiVersion": self.version(), "kind": self.kind, "what": 1}),
            ),
            apply(
                "apply-unknown-default",
                "?fieldManager=m3",
                &json!({"apiVersion": self.version(), "kind": self.kind, "what": 1}),
            ),
            self.patch("merge", name, MERGE, &self.change),
            self.patch("merge-again", name, MERGE, &self.change),
            self.patch("merge-empty", name, MERGE, &json!({})),
            self.patch("merge-label", name, MERGE, &label("b")),
            self.patch("merge-label-away", name, MERGE, &json!({"metadata": {"labels": {"k": null}}})),
            self.patch("merge-null-metadata", name, MERGE, &json!({"metadata": null})),
            self.patch("merge-name", name, MERGE, &json!({"metadata": {"name": "other"}})),
            self.patch("merge-kind", name, MERGE, &json!({"kind": "Other"})),
            self.patch("merge-unknown", name, MERGE, &json!({"what": 1})),
            self.patch("merge-list", name, MERGE, &json!([])),
            self.patch("merge-stale", name, MERGE, &json!({"metadata": {"resourceVersion": "1"}})),
            self.patch("merge-managers-away", name, MERGE, &json!({"metadata": {"managedFields": [{}]}})),
            self.patch("strategic", name, STRATEGIC, &label("c")),
            self.patch("strategic-change", name, STRATEGIC, &self.change),
            self.patch("strategic-delete", name, STRATEGIC, &json!({"metadata": {"labels": {"$patch": "delete"}}})),
            self.patch(
                "strategic-replace",
                name,
                STRATEGIC,
                &json!({"metadata": {"labels": {"$patch": "replace", "z": "y", "letter": "{t}"}}}),
            ),
            self.patch("strategic-bad", name, STRATEGIC, &json!({"metadata": {"labels": {"$patch": "explode"}}})),
            set("json-add", json!([{"op": "add", "path": "/metadata/labels/j", "value": "k"}])),
            set("json-test", json!([{"op": "test", "path": "/metadata/labels/j", "value": "other"}])),
            set("json-no-path", json!([{"op": "remove", "path": "/metadata/labels/none"}])),
            set("json-bad-op", json!([{"op": "explode", "path": "/metadata"}])),
            set("json-no-list", json!({"op": "remove"})),
            set("json-wrong-type", json!([{"op": "replace", "path": "/metadata/labels", "value": 5}])),
            Step::new("patch-unknown-kind", "PATCH", self.path(name))
                .header("content-type", "application/json")
                .json(&label("d")),
            Step::new("patch-broken", "PATCH", self.path(name)).header("content-type", MERGE).raw("{"),
            Step::new("get", "GET", self.path(name)),
        ]
    }

    /// What is in the metadata, and what a body may be.
    fn names(&self) -> Vec<Step> {
        let named =
            |step: &str, metadata: Value| self.create(step, &self.with("named", &json!({"metadata": metadata})));
        let at = |query: &str| format!("{}?{query}", self.collection());
        let unknown = |step: &str, query: &str| {
            Step::new(step, "POST", at(query)).json(&self.with("field", &json!({"what": 1, "metadata": {"who": 2}})))
        };
        let object = self.object("body");
        let send = |step: &str, query: &str| Step::new(step, "POST", at(query)).json(&object);
        let text = object.to_string();
        let doubled = format!("{{\"kind\":\"{}\",{}", self.kind, text.trim_start_matches('{'));
        let mut steps = vec![
            named("no-name", json!({"name": null})),
            named("bad-name", json!({"name": "A_{t}"})),
            named("slash-name", json!({"name": "a/b"})),
            named("long-name", json!({"name": format!("{}{{t}}", "x".repeat(249))})),
            named("dot-name", json!({"name": ".."})),
            named("bad-generated", json!({"name": null, "generateName": "A_"})),
            named("bad-label", json!({"labels": {"g/h/i": "j"}})),
            named("bad-label-value", json!({"labels": {"d": "e f"}})),
            named("bad-annotations", json!({"annotations": {"a b": "c"}})),
            named("bad-finalizer", json!({"finalizers": ["x", "a b/c"]})),
            named("bad-owner", json!({"ownerReferences": [{"apiVersion": "v1", "kind": "", "name": "", "uid": ""}]})),
            named(
                "two-controllers",
                json!({"ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "00000000-1", "controller": true},
                {"apiVersion": "v1", "kind": "Pod", "name": "b", "uid": "00000000-2", "controller": true}]}),
            ),
            named(
                "event-owner",
                json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "00000000-1"}]}),
            ),
            named("versioned", json!({"resourceVersion": "5"})),
            named("wrong-types", json!({"labels": {"a": 5}})),
            named("wrong-generation", json!({"generation": "x"})),
            named("other-namespace", json!({"namespace": "other"})),
            self.create("other-version", &self.with("v", &json!({"apiVersion": "v9"}))),
            self.create("other-kind", &self.with("v", &json!({"kind": "Other"}))),
            self.create("no-kind", &self.with("nokind", &json!({"kind": null, "apiVersion": null}))),
            unknown("unknown-strict", "fieldValidation=Strict"),
            unknown("unknown-warn", "fieldValidation=Warn&dryRun=All"),
            unknown("unknown-ignored", "fieldValidation=Ignore&dryRun=All"),
            unknown("unknown-default", "dryRun=All"),
            unknown("bad-validation", "fieldValidation=Maybe"),
            send("doubled", "dryRun=All&fieldValidation=Strict").raw(doubled.clone()),
            send("doubled-warned", "dryRun=All").raw(doubled),
            send("bad-dry-run", "dryRun=Some"),
            send("long-manager", &format!("dryRun=All&fieldManager={}", "m".repeat(129))),
            send("broken", "dryRun=All").raw("{\"a\":"),
            send("empty", "dryRun=All").raw(""),
            send("list", "dryRun=All").raw("[]"),
            send("text", "dryRun=All").raw("\"x\""),
            send("no-media-type", "dryRun=All").header("content-type", ""),
            send("unsupported", "dryRun=All").header("content-type", "text/plain"),
            send("broken-protobuf", "dryRun=All").header("content-type", PROTOBUF).raw("k8s"),
            send("yaml", "dryRun=All").header("content-type", "application/yaml"),
            send("answer-table", "dryRun=All").accept(TABLE),
            send("answer-partial", "dryRun=All").accept(PARTIAL),
            send("answer-protobuf", "dryRun=All").accept(PROTOBUF),
            send("answer-yaml", "dryRun=All").accept("application/yaml"),
        ];
        if self.name.is_none() {
            let generate = json!({"name": null, "generateName": "gen-"});
            steps.push(
                Step::new("generated", "POST", at("dryRun=All")).json(&self.with("g", &json!({"metadata": generate}))),
            );
        }
        steps
    }

    /// Values that are refused, in a new object and in one that is there.
    fn values(&self) -> Vec<Step> {
        let mut steps = vec![self.create("create", &self.object("valued"))];
        for (i, bad) in self.bad.iter().enumerate() {
            let fresh = self.with("bad", bad);
            steps
                .push(Step::new(&format!("new-{i}"), "POST", format!("{}?dryRun=All", self.collection())).json(&fresh));
            let path = format!("{}?dryRun=All", self.path("valued"));
            steps.push(Step::new(&format!("change-{i}"), "PATCH", path).header("content-type", MERGE).json(bad));
        }
        steps
    }

    /// Deletions.
    fn ends(&self) -> Vec<Step> {
        let path = self.path("ended");
        let remove = |step: &str, options: Value| Step::new(step, "DELETE", &path).json(&options);
        let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
        let mut steps = vec![
            self.create("create", &self.object("ended")),
            remove("wrong-uid", json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})),
            remove("wrong-version", json!({"preconditions": {"resourceVersion": "1"}})),
            remove("bad-policy", json!({"propagationPolicy": "Burn"})),
            remove("two-policies", json!({"propagationPolicy": "Orphan", "orphanDependents": true})),
            remove("bad-dry-run", json!({"dryRun": ["Some"]})),
            remove("bad-kind", json!({"kind": "Other", "apiVersion": "v1"})),
            remove("unknown-option", json!({"what": 1, "dryRun": ["All"]})),
            remove("wrong-type", json!({"gracePeriodSeconds": "x"})),
            Step::new("broken", "DELETE", &path).raw("{"),
            Step::new("dry", "DELETE", format!("{path}?dryRun=All")),
            Step::new("still-there", "GET", &path),
            Step::new("delete", "DELETE", format!("{path}?gracePeriodSeconds=0")),
            Step::new("gone", "GET", &path),
            self.create("held", &self.with("ended", &held)),
            Step::new("delete-held", "DELETE", format!("{path}?gracePeriodSeconds=0")),
            Step::new("held-is-there", "GET", &path),
            Step::new("delete-held-again", "DELETE", format!("{path}?gracePeriodSeconds=0")),
            self.patch(
                "add-finalizer",
                "ended",
                MERGE,
                &json!({"metadata": {"finalizers": ["example.com/held", "example.com/more"]}}),
            ),
            self.patch("let-go", "ended", MERGE, &json!({"metadata": {"finalizers": null}})),
            Step::new("let-go-is-gone", "GET", &path),
            self.create("foreground", &self.object("ended")),
            remove("delete-foreground", json!({"propagationPolicy": "Foreground"})),
            Step::new("foreground-is-there", "GET", &path),
        ];
        if !self.nocollection {
            let some = format!("{}?fieldSelector=metadata.name%3D{}", self.collection(), self.named("many"));
            steps.extend([
                self.create("many", &self.object("many")),
                Step::new("collection-bad-policy", "DELETE", &some).json(&json!({"propagationPolicy": "Burn"})),
                Step::new("collection-bad-selector", "DELETE", format!("{}?labelSelector=%3D%3D", self.collection())),
                Step::new("collection-dry", "DELETE", format!("{some}&dryRun=All")),
                Step::new("collection", "DELETE", format!("{some}&gracePeriodSeconds=0")),
                Step::new("collection-empty", "DELETE", &some),
            ]);
        }
        steps
    }
}
