//! Storage classes and CSI drivers.

use super::Hook::{self, Before};
use super::object::{Object, if_absent, if_empty, make};
use serde_json::json;

pub(super) const HOOKS: &[Hook] =
    &[Before("api.storage.v1.StorageClass", storage_class), Before("api.storage.v1.CSIDriver", csi_driver)];

fn storage_class(object: &mut Object) {
    if_absent(object, "reclaimPolicy", "Delete");
    if_absent(object, "volumeBindingMode", "Immediate");
}

fn csi_driver(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if_absent(spec, "attachRequired", true);
    if_absent(spec, "podInfoOnMount", false);
    if_absent(spec, "storageCapacity", false);
    if_absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if_empty(spec, "volumeLifecycleModes", json!(["Persistent"]));
    if_absent(spec, "requiresRepublish", false);
    if_absent(spec, "seLinuxMount", false);
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn a_driver_attaches_unless_it_says_otherwise() {
        let mut driver = json!({"spec": {"podInfoOnMount": true}});
        apply("storage.k8s.io", "v1", "CSIDriver", &mut driver);
        assert_eq!(
            driver["spec"],
            json!({"attachRequired": true, "podInfoOnMount": true, "storageCapacity": false, "requiresRepublish": false,
                "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"], "seLinuxMount": false})
        );
    }
}
