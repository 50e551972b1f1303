//! Priority classes.

use super::Hook::{self, Before};
use super::object::if_absent;

pub(super) const HOOKS: &[Hook] = &[Before("api.scheduling.v1.PriorityClass", |class| {
    if_absent(class, "preemptionPolicy", "PreemptLowerPriority");
})];
