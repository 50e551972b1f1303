//! What is asked: the `spec` of a SubjectAccessReview.

use std::collections::BTreeMap;

use kedge_meta::labels::Operator;
use kedge_meta::{fields, labels};
use serde_json::{Map, Value, json};

use super::Version;
use crate::authorizer::Request;

/// The question as it is sent; what is empty is left out, as upstream.
pub(super) fn sent(request: &Request<'_>) -> Map<String, Value> {
    let mut spec = Map::new();
    if request.is_resource {
        let mut attributes = texts(&resource(request));
        attributes.extend(selectors(request));
        spec.insert("resourceAttributes".into(), attributes.into());
    } else {
        let attributes = texts(&[("path", request.path), ("verb", request.verb)]);
        spec.insert("nonResourceAttributes".into(), attributes.into());
    }
    if let Some(user) = request.user {
        spec.extend(texts(&[("user", &user.name), ("uid", &user.uid)]));
        if !user.groups.is_empty() {
            spec.insert("groups".into(), json!(user.groups));
        }
        if !user.extra.is_empty() {
            spec.insert("extra".into(), json!(user.extra));
        }
    }
    spec
}

/// The question in the words of a version.
pub(super) fn versioned(mut spec: Map<String, Value>, version: Version) -> Value {
    if version == Version::V1beta1
        && let Some(groups) = spec.remove("groups")
    {
        spec.insert("group".into(), groups);
    }
    spec.into()
}

/// The question as conditions see it: texts that are empty are there, too.
pub(super) fn shown(request: &Request<'_>) -> Value {
    let nobody = BTreeMap::new();
    let (name, uid, groups, extra) = match request.user {
        Some(user) => (user.name.as_str(), user.uid.as_str(), user.groups.as_slice(), &user.extra),
        None => ("", "", &[][..], &nobody),
    };
    let mut shown = json!({"user": name, "uid": uid, "groups": groups, "extra": extra});
    if request.is_resource {
        let all = resource(request).map(|(field, text)| (field.to_owned(), Value::from(text)));
        let mut attributes = Map::from_iter(all);
        attributes.extend(selectors(request));
        shown["resourceAttributes"] = attributes.into();
    } else {
        shown["nonResourceAttributes"] = json!({"path": request.path, "verb": request.verb});
    }
    shown
}

/// How much of it is the requester's choice, in bytes.
pub(super) fn controlled(request: &Request<'_>) -> usize {
    resource(request).iter().map(|(_, text)| text.len()).sum::<usize>() + request.path.len()
}

fn resource<'a>(request: &Request<'a>) -> [(&'static str, &'a str); 7] {
    [
        ("namespace", request.namespace),
        ("verb", request.verb),
        ("group", request.group),
        ("version", request.version),
        ("resource", request.resource),
        ("subresource", request.subresource),
        ("name", request.name),
    ]
}

fn texts(all: &[(&str, &str)]) -> Map<String, Value> {
    let given = all.iter().filter(|(_, text)| !text.is_empty());
    given.map(|(field, text)| ((*field).to_owned(), Value::from(*text))).collect()
}

/// Both selectors, where they say something.
fn selectors(request: &Request<'_>) -> impl Iterator<Item = (String, Value)> {
    let fields = request.fields.map(by_fields).filter(|all| !all.is_empty()).map(|all| ("fieldSelector", all));
    let labels = request.labels.map(by_labels).filter(|all| !all.is_empty()).map(|all| ("labelSelector", all));
    fields.into_iter().chain(labels).map(|(name, all)| (name.to_owned(), json!({"requirements": all})))
}

fn by_fields(selector: &fields::Selector) -> Vec<Value> {
    let mut all: Vec<_> = selector.requirements.iter().collect();
    // As upstream reads them.
    all.sort_by_key(|one| format!("{}{}{}", one.field, if one.equal { "=" } else { "!=" }, one.value));
    let said = |one: &fields::Requirement| json!({"key": one.field, "operator": if one.equal { "In" } else { "NotIn" }, "values": [one.value]});
    all.into_iter().map(said).collect()
}

fn by_labels(selector: &labels::Selector) -> Vec<Value> {
    let mut all: Vec<_> = selector.requirements().iter().collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let said = |one: &labels::Requirement| {
        let operator = match one.operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            // What is left out restricts less: whoever decides without it decides about more.
            Operator::Gt | Operator::Lt => return None,
        };
        let mut said = json!({"key": one.key, "operator": operator});
        if !one.values.is_empty() {
            said["values"] = json!(one.values);
        }
        Some(said)
    };
    all.into_iter().filter_map(said).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::UserInfo;

    #[test]
    fn what_is_empty_is_left_out_and_selectors_are_requirements() {
        let user = UserInfo { name: "jane".into(), groups: vec!["dev".into()], ..UserInfo::default() };
        let fields = fields::Selector::parse("spec.nodeName=n1,metadata.name!=x").unwrap();
        let labels = labels::Selector::parse("b in (y,x),a,!c,d>1").unwrap();
        let request = Request {
            user: Some(&user),
            verb: "list",
            version: "v1",
            resource: "pods",
            namespace: "default",
            fields: Some(&fields),
            labels: Some(&labels),
            is_resource: true,
            ..Request::default()
        };
        let wanted = json!({
            "user": "jane", "groups": ["dev"],
            "resourceAttributes": {
                "namespace": "default", "verb": "list", "version": "v1", "resource": "pods",
                "fieldSelector": {"requirements": [
                    {"key": "metadata.name", "operator": "NotIn", "values": ["x"]},
                    {"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]},
                "labelSelector": {"requirements": [
                    {"key": "a", "operator": "Exists"},
                    {"key": "b", "operator": "In", "values": ["x", "y"]},
                    {"key": "c", "operator": "DoesNotExist"}]},
            },
        });
        assert_eq!(Value::from(sent(&request)), wanted);
        let beta = versioned(sent(&request), Version::V1beta1);
        assert_eq!((&beta["group"], beta.get("groups")), (&json!(["dev"]), None));
        let shown = shown(&request);
        assert_eq!((&shown["uid"], &shown["extra"]), (&json!(""), &json!({})));
        assert_eq!(shown["resourceAttributes"]["subresource"], "");
        assert_eq!(controlled(&request), "listv1podsdefault".len());
    }

    #[test]
    fn paths_are_no_resources() {
        let request = Request { verb: "get", path: "/healthz", ..Request::default() };
        assert_eq!(Value::from(sent(&request)), json!({"nonResourceAttributes": {"path": "/healthz", "verb": "get"}}));
        assert_eq!(shown(&request).get("resourceAttributes"), None);
    }
}
