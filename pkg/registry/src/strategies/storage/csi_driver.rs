//! CSI drivers.

use kedge_meta::field::{Error, ErrorList};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

const MIN_TOKEN_SECONDS: i64 = 10 * 60;

pub(crate) struct CsiDriver;

impl Strategy for CsiDriver {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, driver: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(driver, "spec");
        for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
            if !spec.child(field).is_set() {
                errors.push(spec.child(field).required(""));
            }
        }
        errors.one_of(&spec.child("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"]);
        for mode in spec.child("volumeLifecycleModes").items() {
            errors.one_of(&mode, &["Ephemeral", "Persistent"]);
        }
        let mut seen: Vec<&str> = Vec::new();
        for request in spec.child("tokenRequests").items() {
            let (audience, seconds) = (request.child("audience"), request.child("expirationSeconds"));
            if seen.contains(&audience.text()) {
                errors.push(Error::duplicate(&audience.path, audience.text()));
            }
            seen.push(audience.text());
            if seconds.int().is_some_and(|seconds| seconds < MIN_TOKEN_SECONDS) {
                errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
            }
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
        for field in ["attachRequired", "volumeLifecycleModes"] {
            errors.immutable(&spec.child(field), &was.child(field));
        }
        errors
    }
}
