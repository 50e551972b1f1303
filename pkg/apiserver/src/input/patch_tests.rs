//! A patch changes an object, never what kind of object it is.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};

use http::Request;
use serde_json::json;

use super::*;
use crate::body::{RequestBody, full};

async fn read(form: &str, patch: &str, query: &str) -> Result<Patch, Status> {
    let uri: http::Uri = format!("/api/v1/namespaces/a/configmaps/m?{query}").parse().unwrap();
    let info = RequestInfo::parse(&http::Method::PATCH, &uri).unwrap();
    let request = Request::patch(uri).header("content-type", format!("application/{form}+json"));
    Patch::read(&request.body(RequestBody::new(full(patch.to_owned()), None)).unwrap(), &info).await
}

fn conversion(info: &ResourceInfo) -> &'static dyn Conversion {
    static ALL: LazyLock<[Arc<dyn Conversion>; 3]> = LazyLock::new(|| {
        [("", "events"), ("autoscaling", "horizontalpodautoscalers"), ("", "")]
            .map(|(group, plural)| convert::built_in(group, plural))
    });
    match &*info.plural {
        "events" => &*ALL[0],
        "horizontalpodautoscalers" => &*ALL[1],
        _ => &*ALL[2],
    }
}

fn target(group: &str, version: &str, plural: &str) -> Target<'static> {
    let info = kedge_schema::resource(group, version, plural).unwrap();
    Target::of(info, &kedge_schema::Builtin, conversion(info))
}

async fn patched(form: &str, patch: &str, query: &str) -> Result<Value, Status> {
    let current = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}});
    read(form, patch, query).await?.transform(&current, &target("", "v1", "configmaps"))
}

/// Once this was stored, and every watcher of config maps was shown a node.
#[tokio::test]
async fn no_patch_makes_another_kind_of_an_object() {
    for resource in kedge_schema::resources().iter().filter(|r| r.is_stored()) {
        let target = target(&resource.group, &resource.version, &resource.plural);
        let current = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": "m"}});
        let other = if resource.kind == "Node" { "Pod" } else { "Node" };
        for (kind, version) in [(other, "v1"), ("Nonsense", "v1"), (&*resource.kind, "nowhere/v1")] {
            let ops = json!([{"op": "replace", "path": "/kind", "value": kind},
                {"op": "replace", "path": "/apiVersion", "value": version}]);
            let merge = json!({"kind": kind, "apiVersion": version}).to_string();
            for (form, patch) in [("json-patch", &ops.to_string()), ("merge-patch", &merge)] {
                let refused = read(form, patch, "").await.unwrap().transform(&current, &target).unwrap_err();
                assert_eq!((refused.code, refused.reason), (422, Reason::Invalid), "{form} {kind} {version}");
                let causes = refused.details.unwrap().causes;
                assert_eq!((causes.len(), causes[0].field.as_str()), (1, "patch"));
            }
            // Upstream does not look at these fields of a strategic patch.
            let new = read("strategic-merge-patch", &merge, "").await.unwrap().transform(&current, &target).unwrap();
            assert_eq!((&new["kind"], &new["apiVersion"]), (&json!(resource.kind), &json!(resource.api_version())));
        }
        for form in ["merge-patch", "strategic-merge-patch"] {
            let gone = read(form, r#"{"kind": null}"#, "").await.unwrap().transform(&current, &target).unwrap();
            assert_eq!(gone["kind"], *resource.kind, "{form}");
        }
    }
}

#[tokio::test]
async fn the_refusal_says_what_upstreams_decoder_says() {
    let refused = patched("merge-patch", r#"{"kind":"Node","data":null}"#, "").await.unwrap_err();
    let said = &refused.details.unwrap().causes[0].message;
    assert!(said.ends_with(": converting (v1.Node) to (core.ConfigMap): unknown conversion"), "{said}");
    assert!(refused.message.starts_with(" \"\" is invalid: patch: Invalid value: \"{"), "{}", refused.message);
    let refused = patched("merge-patch", r#"{"kind":"X"}"#, "").await.unwrap_err();
    let wanted = "no kind \"X\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
    assert!(refused.message.ends_with(wanted), "{}", refused.message);
    let refused = patched("merge-patch", r#"{"kind":5}"#, "").await.unwrap_err();
    assert_eq!(refused.code, 422, "{}", refused.message);
}

/// What calls itself another version of the same resource is read as such.
#[tokio::test]
async fn another_version_of_the_same_resource_is_converted() {
    let current = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "m"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    let patch = r#"{"apiVersion": "autoscaling/v1", "spec": {"targetCPUUtilizationPercentage": 70}}"#;
    let patch = read("merge-patch", patch, "").await.unwrap();
    let new = patch.transform(&current, &target("autoscaling", "v2", "horizontalpodautoscalers")).unwrap();
    assert_eq!(new["apiVersion"], "autoscaling/v2");
    assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_errors_or_warnings() {
    let merge = r#"{"data":{"a":"x"},"data":{"a":"c"},"spec":1}"#;
    let ops = r#"[{"op":"add","path":"/spec","value":1,"note":"n"}]"#;
    let strategic = r#"{"data":{"a":"c"},"spec":1}"#;
    for (form, patch, said) in [
        ("merge-patch", merge, r#"duplicate field "data", unknown field "spec""#),
        ("json-patch", ops, r#"json patch unknown field "[0].note", unknown field "spec""#),
        ("strategic-merge-patch", strategic, r#"unknown field "spec""#),
    ] {
        let refused = patched(form, patch, "fieldValidation=Strict").await.unwrap_err();
        assert_eq!(refused.code, 422, "{form}");
        assert!(refused.message.ends_with(&format!("strict decoding error: {said}")), "{}", refused.message);
        assert_eq!(refused.details.unwrap().causes[0].field, "patch");
        for (query, warned) in [("", true), ("fieldValidation=Warn", true), ("fieldValidation=Ignore", false)] {
            let read = read(form, patch, query).await.unwrap();
            let current = json!({"metadata": {"name": "m"}});
            let new = read.transform(&current, &target("", "v1", "configmaps")).unwrap();
            assert_eq!(new.get("spec"), None);
            let wanted = if warned { said.to_owned() } else { String::new() };
            assert_eq!(read.warnings().join(", "), wanted, "{form} {query}");
        }
    }
}

#[tokio::test]
async fn patches_that_are_none_and_those_that_do_not_fit() {
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/x","value":null}"#; 10_001].join(","));
    for (form, patch, code, said) in [
        (
            "json-patch",
            many.as_str(),
            413,
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
        ),
        (
            "json-patch",
            "{}",
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            "json-patch",
            "[{\"op\":1}]",
            400,
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
        ),
        (
            "merge-patch",
            "[]",
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            "json-patch",
            r#"[{"op":"test","path":"/data/a","value":"z"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            "json-patch",
            r#"[{"op":"remove","path":"nonsense"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            "json-patch",
            r#"[{"op":"hop","path":"/data"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
    ] {
        let refused = patched(form, patch, "").await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (code, said), "{form} {}", &patch[..patch.len().min(80)]);
    }
    for (form, nothing) in
        [("json-patch", "null"), ("json-patch", "[]"), ("strategic-merge-patch", "null"), ("merge-patch", "{}")]
    {
        assert_eq!(patched(form, nothing, "").await.unwrap()["data"]["a"], "b", "{form} {nothing}");
    }
    assert_eq!(patched("merge-patch", r#"{"data":{"a":1}}"#, "").await.unwrap_err().code, 422);
}
