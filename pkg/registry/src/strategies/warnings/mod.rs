//! What writers are warned about: fields and values that are accepted, and do not do what they seem to.
//!
//! Invariant: the object is valid, and stays as it is; texts are upstream's.

mod address;
mod node_label;
mod pod;
mod service;
mod storage;
mod volume_paths;

use kedge_meta::names;
use kedge_meta::quantity::Quantity;
use serde_json::Value;

use super::validation::At;
use crate::strategy::Context;
use crate::value::ValueExt;

/// Warnings that are made; an answer carries no more.
pub(super) const MOST_WARNINGS: usize = 64;

/// Warnings about an object of a kind of upstream's; there are none about others.
pub(crate) fn of(ctx: &Context<'_>, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let (group, plural) = (&*ctx.resource.group, &*ctx.resource.plural);
    match ctx.subresource {
        "" => {}
        "status" => {
            if matches!((group, plural), ("", "services") | ("networking.k8s.io", "ingresses")) {
                address::of_load_balancer(new, &mut warnings);
            }
            return warnings;
        }
        _ => return warnings,
    }
    match (group, plural) {
        ("", "pods") if old.is_none() => pod::pod(new, &mut warnings),
        ("", "services") => service::service(new, &mut warnings),
        ("", "persistentvolumes") => storage::volume(new, &mut warnings),
        ("", "persistentvolumeclaims") => storage::claim(new, &mut warnings),
        ("storage.k8s.io", "storageclasses") => storage::class(new, &mut warnings),
        ("storage.k8s.io", "csistoragecapacities") => {
            node_label::selector(&At::field(new, "nodeTopology"), &mut warnings);
        }
        ("storage.k8s.io", "csidrivers") => storage::driver(new, old, &mut warnings),
        ("node.k8s.io", "runtimeclasses") => node_label::runtime_class(new, &mut warnings),
        ("", "nodes") => node(new, &mut warnings),
        ("", "endpoints") => address::of_endpoints(new, &mut warnings),
        ("discovery.k8s.io", "endpointslices") => address::of_slice(new, old.is_none(), &mut warnings),
        ("networking.k8s.io", "networkpolicies") => address::of_policy(new, &mut warnings),
        ("networking.k8s.io", "ingresses") if old.is_none() => ingress(new, &mut warnings),
        _ => workload(group, plural, new, old, &mut warnings),
    }
    warnings
}

/// Kinds that make pods: their templates are looked at when they are new or have changed.
fn workload(group: &str, plural: &str, new: &Value, old: Option<&Value>, warnings: &mut Vec<String>) {
    let path: &[&str] = match (group, plural) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("", "replicationcontrollers")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        ("", "podtemplates") => &["template"],
        _ => return,
    };
    let names_pods = !matches!(plural, "statefulsets" | "daemonsets" | "podtemplates");
    let complaints = names::is_dns1123_label(new.name());
    if names_pods && old.is_none() && !complaints.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label \
             is recommended: [{}]",
            complaints.join(" ")
        ));
    }
    let above = path[..path.len() - 1]
        .iter()
        .fold(None, |at: Option<At<'_>>, name| Some(at.map_or_else(|| At::field(new, name), |at| at.child(name))));
    if let Some(spec) = above.as_ref().filter(|_| group == "batch") {
        indexes(spec, warnings);
    }
    let changed =
        old.is_none_or(|old| old.get("spec") != new.get("spec") || old.get("template") != new.get("template"));
    if changed {
        let template = above.map_or_else(|| At::field(new, path[0]), |at| at.child("template"));
        pod::template(&template, warnings);
    }
    if plural == "statefulsets" {
        let spec = At::field(new, "spec");
        for claim in spec.child("volumeClaimTemplates").items() {
            // Upstream leaves out the claim's own `spec` here.
            storage::claim_spec(&At { value: claim.child("spec").value, path: claim.path }, warnings);
        }
        if spec.child("revisionHistoryLimit").int().is_some_and(|limit| limit < 0) {
            let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
            warnings.push(format!("spec.revisionHistoryLimit: {why}"));
        }
    }
}

/// A job with more indexes than can be kept track of.
fn indexes(spec: &At<'_>, warnings: &mut Vec<String>) {
    let more = |field: &str, limit: i64| spec.child(field).int().is_some_and(|n| n > limit);
    if spec.child("completionMode").text() == "Indexed" && more("completions", 100_000) && more("parallelism", 10_000) {
        warnings.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path
        ));
    }
}

fn node(node: &Value, warnings: &mut Vec<String>) {
    let spec = At::field(node, "spec");
    if spec.child("configSource").is_set() {
        warnings.push("spec.configSource: the feature is removed".into());
    }
    if !spec.child("externalID").text().is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    spec.child("podCIDRs").items().for_each(|range| address::range(&range, warnings));
}

fn ingress(ingress: &Value, warnings: &mut Vec<String>) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let annotated = ingress.at(&["metadata", "annotations", CLASS]).is_some();
    if annotated && ingress.at(&["spec", "ingressClassName"]).is_none_or(Value::is_null) {
        warnings.push(format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

/// An amount of bytes that is no whole number.
fn fraction(at: &At<'_>, warnings: &mut Vec<String>) {
    let amount = match at.value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    };
    if let Some(amount) = amount.filter(|amount| amount.milli_value() % 1000 != 0) {
        warnings.push(format!(
            "{}: fractional byte value {:?} is invalid, must be an integer",
            at.path,
            amount.to_string()
        ));
    }
}
