//! CSI drivers.

use kedge_meta::field::{Error, ErrorList};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

const MIN_TOKEN_SECONDS: i64 = 10 * 60;
const MIN_PERIOD_SECONDS: i64 = 10;
const MODES: [&str; 2] = ["Persistent", "Ephemeral"];

pub(crate) struct CsiDriver;

impl Strategy for CsiDriver {
    /// From the first change on.
    fn counts_changes(&self, _: &ResourceInfo) -> bool {
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
        let modes = spec.child("volumeLifecycleModes");
        for mode in modes.items().filter(|mode| !MODES.contains(&mode.text())) {
            errors.push(Error::not_supported_of(&modes.path, mode.text(), &MODES));
        }
        let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
        if period.int().is_some_and(|seconds| seconds < MIN_PERIOD_SECONDS) {
            errors.push(period.invalid("must be greater than or equal to 10 seconds"));
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
        // The first is called otherwise in upstream's errors.
        for (field, called) in
            [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            let now = At { path: spec.path.child(called), ..spec.child(field) };
            errors.immutable(&now, &was.child(field));
        }
        errors
    }
}
