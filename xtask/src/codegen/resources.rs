//! Reads the discovery documents and writes the resource half of the fact table. Invariant: only group-versions that
//! upstream serves without any `--runtime-config` are kept, and they keep upstream's order.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

pub struct GroupVersion {
    pub group: String,
    pub version: String,
    resources: Vec<Value>,
}

pub struct Table {
    /// In the order of `/apis`; versions of one group in preference order.
    pub versions: Vec<GroupVersion>,
}

/// Beta and alpha versions are off by default; none of them is an exception in 1.36.
fn enabled(version: &str) -> bool {
    !version.contains("alpha") && !version.contains("beta")
}

pub fn read(dir: &Path) -> Result<Table> {
    let mut versions = vec![read_version(dir, "", "v1")?];
    let groups = super::read_json(&dir.join("apis.json"))?;
    for group in groups["groups"].as_array().context("apis.json has no groups")? {
        let name = text(group, "name");
        for version in group["versions"].as_array().context("group has no versions")? {
            let version = text(version, "version");
            if enabled(version) {
                versions.push(read_version(dir, name, version)?);
            }
        }
    }
    Ok(Table { versions })
}

fn read_version(dir: &Path, group: &str, version: &str) -> Result<GroupVersion> {
    let file = if group.is_empty() { format!("api__{version}.json") } else { format!("apis__{group}__{version}.json") };
    let document = super::read_json(&dir.join(file))?;
    let resources = document["resources"].as_array().context("no resources")?.clone();
    Ok(GroupVersion { group: group.to_string(), version: version.to_string(), resources })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list(value: &Value, key: &str) -> String {
    let items = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    if items.is_empty() { "-".to_string() } else { items.join(",") }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// The place below `/registry/` where upstream keeps a resource.
fn storage_prefix(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("", "replicationcontrollers") => "controllers".into(),
        ("", "endpoints") => "services/endpoints".into(),
        ("", "nodes") => "minions".into(),
        ("", "services") => "services/specs".into(),
        ("networking.k8s.io", "ingresses") => "ingress".into(),
        // These two are served by other API servers inside the process, which put the group in front.
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", plural) => format!("{group}/{plural}"),
        (_, plural) => plural.into(),
    }
}

/// The group-version that the stored form of a resource has in upstream 1.36.
fn storage_version<'a>(group: &'a str, version: &'a str, plural: &str) -> (&'a str, &'a str) {
    match (group, plural) {
        // Both events resources are one resource; it is stored in the core form.
        ("events.k8s.io", "events") => ("", "v1"),
        ("autoscaling", "horizontalpodautoscalers") => ("autoscaling", "v2"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies" | "mutatingadmissionpolicybindings") => {
            (group, "v1beta1")
        }
        _ => (group, version),
    }
}

/// Lines: `G group version`, then for each resource `R plural singular Kind scope verbs shortNames categories hash
/// prefix storageVersion`, each followed by its subresources as `S name group version Kind verbs`.
pub fn write(table: &Table, out: &mut String) -> Result<()> {
    for gv in &table.versions {
        writeln!(out, "G {} {}", or_dash(&gv.group), gv.version)?;
        let mut subresources: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for resource in &gv.resources {
            if let Some((parent, _)) = text(resource, "name").split_once('/') {
                subresources.entry(parent).or_default().push(resource);
            }
        }
        for resource in &gv.resources {
            let plural = text(resource, "name");
            if plural.contains('/') {
                continue;
            }
            let (group, version) = storage_version(&gv.group, &gv.version, plural);
            let scope = if resource["namespaced"] == Value::Bool(true) { "N" } else { "C" };
            writeln!(
                out,
                "R {plural} {} {} {scope} {} {} {} {} {} {}/{version}",
                text(resource, "singularName"),
                text(resource, "kind"),
                list(resource, "verbs"),
                list(resource, "shortNames"),
                list(resource, "categories"),
                or_dash(text(resource, "storageVersionHash")),
                storage_prefix(&gv.group, plural),
                or_dash(group),
            )?;
            for sub in subresources.remove(plural).unwrap_or_default() {
                write_subresource(gv, sub, out)?;
            }
        }
        anyhow::ensure!(subresources.is_empty(), "subresources without a parent in {}/{}", gv.group, gv.version);
    }
    Ok(())
}

fn write_subresource(gv: &GroupVersion, sub: &Value, out: &mut String) -> Result<()> {
    let name = text(sub, "name").split_once('/').map(|(_, name)| name).unwrap_or_default();
    let version = match text(sub, "version") {
        "" => &gv.version,
        version => version,
    };
    // An absent version means that the kind is of the resource's own group-version.
    let group = if text(sub, "version").is_empty() { &gv.group } else { text(sub, "group") };
    writeln!(out, "S {name} {} {version} {} {}", or_dash(group), text(sub, "kind"), list(sub, "verbs"))?;
    Ok(())
}
