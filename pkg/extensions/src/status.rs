//! What is written into the status of a definition.

use kedge_registry::value::{ValueExt as _, set_condition};
use serde_json::{Value, json};

use crate::definition::{Crd, Names};
use crate::names::Judgement;

const APPROVED: &str = "api-approved.kubernetes.io";
const WHERE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// A condition that is to be set.
pub(crate) struct Wanted {
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Wanted {
    pub(crate) fn new(kind: &'static str, status: bool, reason: &'static str, message: impl Into<String>) -> Self {
        let status = if status { "True" } else { "False" };
        Self { kind, status, reason, message: message.into() }
    }

    /// Whether a definition has it.
    pub(crate) fn is_in(&self, crd: &Crd) -> bool {
        crd.condition(self.kind).is_some_and(|condition| {
            condition.status == self.status && condition.reason == self.reason && condition.message == self.message
        })
    }

    /// Sets it in a definition.
    pub(crate) fn set(&self, definition: &mut Value, now: &str) {
        let condition =
            json!({"type": self.kind, "status": self.status, "reason": self.reason, "message": self.message});
        set_condition(definition, condition, now);
    }
}

/// What is said of the structure of schemas.
pub(crate) enum Structure {
    /// Nothing.
    Sound,
    Violated(Wanted),
}

impl Structure {
    pub(crate) const KIND: &str = "NonStructuralSchema";

    pub(crate) fn of(violations: Option<(&'static str, String)>) -> Self {
        match violations {
            None => Self::Sound,
            Some((reason, message)) => {
                // A schema that cannot be judged is neither.
                let status = if reason == "Violations" { "True" } else { "Unknown" };
                Self::Violated(Wanted { status, ..Wanted::new(Self::KIND, true, reason, message) })
            }
        }
    }

    pub(crate) fn is_settled(&self, crd: &Crd) -> bool {
        match self {
            Self::Sound => crd.condition(Self::KIND).is_none(),
            Self::Violated(wanted) => wanted.is_in(crd),
        }
    }

    pub(crate) fn set(&self, definition: &mut Value, now: &str) {
        match self {
            Self::Sound => {
                if let Some(Value::Array(conditions)) = definition.entry("status").get_mut("conditions") {
                    conditions.retain(|condition| condition.text(&["type"]) != Self::KIND);
                }
            }
            Self::Violated(wanted) => wanted.set(definition, now),
        }
    }
}

/// Says which names are accepted, and that it is established from then on.
pub(crate) fn accept(definition: &mut Value, judgement: &Judgement, now: &str) {
    definition.entry("status").insert("acceptedNames".into(), names_value(&judgement.accepted));
    let accepted = match &judgement.conflict {
        None => Wanted::new("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => Wanted::new("NamesAccepted", false, reason, message.clone()),
    };
    accepted.set(definition, now);
    let conditions = definition.list(&["status", "conditions"]);
    let established = conditions.iter().find(|condition| condition.text(&["type"]) == "Established");
    if established.is_some_and(|condition| condition.text(&["status"]) == "True") {
        return;
    }
    let wanted = match (&judgement.conflict, has_bad_bundle(definition)) {
        (None, false) => {
            Wanted::new("Established", true, "InitialNamesAccepted", "the initial names have been accepted")
        }
        (None, true) => {
            Wanted::new("Established", false, "InvalidCABundle", "The conversion webhook CABundle is invalid")
        }
        (Some(_), _) if established.is_some() => return,
        (Some(_), _) => Wanted::new("Established", false, "NotAccepted", "not all names are accepted"),
    };
    wanted.set(definition, now);
}

fn has_bad_bundle(definition: &Value) -> bool {
    definition.at(&["spec", "conversion", "webhook"]).is_some_and(is_bad)
}

/// Whether a webhook has a bundle without certificates.
pub(crate) fn is_bad(webhook: &Value) -> bool {
    use base64::Engine as _;
    let bundle = webhook.text(&["clientConfig", "caBundle"]);
    let decoded = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
    !bundle.is_empty() && !String::from_utf8_lossy(&decoded).contains("-----BEGIN CERTIFICATE-----")
}

fn names_value(names: &Names) -> Value {
    let mut value = json!({"plural": names.plural, "kind": names.kind});
    for (field, name) in [("singular", &names.singular), ("listKind", &names.list_kind)] {
        if !name.is_empty() {
            value.set(field, name.to_string());
        }
    }
    for (field, list) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            value.set(field, list.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    }
    value
}

/// Whether a group belongs to the community, and its kinds want its approval.
fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .into_iter()
        .any(|own| group == own || group.strip_suffix(own).is_some_and(|head| head.ends_with('.')))
}

/// What is said of the approval of a definition, which an annotation has, in groups that need one.
pub(crate) fn approval(group: &str, annotation: &str) -> Option<Wanted> {
    if !is_protected(group) {
        return None;
    }
    let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    let (status, reason, message) = match annotation {
        "" => (
            false,
            "MissingAnnotation",
            format!("protected groups must have approval annotation {APPROVED:?}, {WHERE}"),
        ),
        text if text.starts_with("unapproved") => (false, "UnapprovedAnnotation", format!("not approved: {text:?}")),
        text if is_url => (true, "ApprovedAnnotation", format!("approved in {text}")),
        _ => (
            false,
            "InvalidAnnotation",
            format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {WHERE}"
            ),
        ),
    };
    Some(Wanted::new("KubernetesAPIApprovalPolicyConformant", status, reason, message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_of_the_community_want_approval() {
        let of =
            |group: &str, annotation: &str| approval(group, annotation).map(|wanted| (wanted.status, wanted.reason));
        assert_eq!(of("example.org", ""), None);
        assert_eq!(of("myk8s.io", ""), None);
        assert_eq!(of("a.k8s.io", ""), Some(("False", "MissingAnnotation")));
        assert_eq!(of("k8s.io", "unapproved, a test"), Some(("False", "UnapprovedAnnotation")));
        assert_eq!(of("a.kubernetes.io", "https://example.org/1"), Some(("True", "ApprovedAnnotation")));
        assert_eq!(of("a.kubernetes.io", "yes"), Some(("False", "InvalidAnnotation")));
    }

    /// Definitions of the first version of the API may keep all fields, or have fields without a type: an upgraded cluster has them still.
    #[test]
    fn what_is_not_structural_is_told_of() {
        let definition = json!({"spec": {"preserveUnknownFields": true, "versions": [
            {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"x-kubernetes-int-or-string": false}}}}},
        ]}});
        let Structure::Violated(wanted) = Structure::of(kedge_registry::violations(&definition)) else { panic!() };
        assert_eq!((wanted.status, wanted.reason), ("True", "Violations"));
        let told = "[spec.preserveUnknownFields: Invalid value: true: must be false, \
            spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields]";
        assert_eq!(wanted.message, told);
        let mut stored =
            json!({"metadata": {"name": "x"}, "spec": {"group": "g", "names": {}, "scope": "Cluster", "versions": []}});
        wanted.set(&mut stored, "now");
        let read = |stored: &Value| serde_json::from_value::<Crd>(stored.clone()).unwrap();
        assert!(Structure::Violated(wanted).is_settled(&read(&stored)) && !Structure::Sound.is_settled(&read(&stored)));
        Structure::Sound.set(&mut stored, "later");
        assert!(Structure::Sound.is_settled(&read(&stored)));
        let odd = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "$ref": "x"}}}]}});
        let Structure::Violated(wanted) = Structure::of(kedge_registry::violations(&odd)) else { panic!() };
        assert_eq!((wanted.status, wanted.reason), ("Unknown", "StructuralError"));
    }
}
