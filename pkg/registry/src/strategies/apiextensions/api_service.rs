//! API services.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(crate) struct ApiService;

impl Strategy for ApiService {
    /// The name is `version.group`, where core's group is empty.
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::is_path_segment_name(name)
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    /// What is served here is available from the beginning.
    fn prepare_for_create(&self, ctx: &Context<'_>, object: &mut Value) {
        if is_local(object) {
            object["status"] = served_here(ctx);
        }
    }

    /// What was another's is served here from now on: nobody looks at it any more.
    fn prepare_for_update(&self, ctx: &Context<'_>, object: &mut Value, old: &Value) {
        if is_local(object) && !is_local(old) {
            object["status"] = served_here(ctx);
        }
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let (group, version) = (spec.child("group"), spec.child("version"));
        let wanted = format!("{}.{}", version.text(), group.text());
        let is_name = !object.name().is_empty() && names::is_path_segment_name(object.name()).is_empty();
        if is_name && object.name() != wanted {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
            errors.push(Error::invalid(&Path::new("metadata").child("name"), object.name(), detail));
        }
        errors.name(&group, names::is_dns1123_subdomain);
        errors.need_name(&version, names::is_dns1035_label);
        for (field, least, most) in [("groupPriorityMinimum", 1, 20_000), ("versionPriority", 1, 1000)] {
            let number = spec.child(field);
            if !(least..=most).contains(&number.int().unwrap_or_default()) {
                errors.push(number.invalid(format!("must be positive and less than {most}")));
            }
        }
        let service = spec.child("service");
        let (insecure, bundle) = (spec.child("insecureSkipTLSVerify"), spec.child("caBundle"));
        if service.is_set() {
            errors.need_text(&service.child("namespace"));
            errors.need_text(&service.child("name"));
            if insecure.is_true() && !bundle.text().is_empty() {
                errors.push(insecure.invalid("may not be true if caBundle is present"));
            }
        } else {
            if !bundle.text().is_empty() {
                errors.push(Error::invalid(&bundle.path, "<ca bundle>", "local APIServices may not have a caBundle"));
            }
            if insecure.is_true() {
                errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
            }
        }
        errors
    }
}

fn is_local(service: &Value) -> bool {
    service.at(&["spec", "service"]).is_none_or(Value::is_null)
}

/// The status of what is served here.
fn served_here(ctx: &Context<'_>) -> Value {
    let condition = json!({
        "type": "Available", "status": "True", "lastTransitionTime": kedge_base::time::rfc3339(ctx.now),
        "reason": "Local", "message": "Local APIServices are always available",
    });
    json!({ "conditions": [condition] })
}
