//! Groups of the community: definitions in them say where they were approved.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::super::super::validation::go_url;
use crate::value::ValueExt;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn annotation(definition: &Value) -> &str {
    definition.text(&["metadata", "annotations", ANNOTATION])
}

fn approval(definition: &Value) -> Approval {
    match annotation(definition) {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") => Approval::Bypassed,
        text => match go_url::parse_request_uri(text) {
            Ok(url) if !url.host.is_empty() && !url.scheme.is_empty() => Approval::Approved,
            _ => Approval::Invalid,
        },
    }
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .into_iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// What is wrong with the approval; what was wrong with it before may stay.
pub(super) fn check(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    if !is_protected(new.text(&["spec", "group"])) {
        return;
    }
    let state = approval(new);
    if old.is_some_and(|old| approval(old) == state) {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(ANNOTATION);
    let rule = format!("protected groups must have approval annotation {ANNOTATION:?}");
    match state {
        Approval::Missing => errors.push(Error::required(&path, format!("{rule}, {SEE}"))),
        Approval::Invalid => {
            let why = format!("{rule} with either a URL or a reason starting with \"unapproved\", {SEE}");
            errors.push(Error::invalid(&path, annotation(new), why));
        }
        Approval::Approved | Approval::Bypassed => {}
    }
}
