//! Endpoint slices.

use super::Hook::{self, Before};
use super::object::if_absent;

pub(super) const HOOKS: &[Hook] = &[Before("api.discovery.v1.EndpointPort", |port| {
    if_absent(port, "name", "");
    if_absent(port, "protocol", "TCP");
})];
