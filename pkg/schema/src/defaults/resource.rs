//! Dynamic resource allocation.

use super::Hook::{self, Before};
use super::object::{Object, child, if_absent, if_empty, if_zero, text};

pub(super) const HOOKS: &[Hook] = &[
    Before("api.resource.v1.ExactDeviceRequest", request),
    Before("api.resource.v1.DeviceSubRequest", request),
    Before("api.resource.v1.Device", device),
];

fn request(request: &mut Object) {
    if_empty(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        if_zero(request, "count", 1);
    }
}

fn device(device: &mut Object) {
    let mappings = child(device, "nodeAllocatableResourceMappings");
    for mapping in mappings.into_iter().flat_map(|map| map.values_mut()).filter_map(|value| value.as_object_mut()) {
        if_absent(mapping, "allocationMultiplier", "1");
    }
}
