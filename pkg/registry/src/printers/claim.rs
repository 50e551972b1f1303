//! Persistent volume claims.

use serde_json::json;

use super::volume::{access_modes, class, phase};
use super::{AGE, NAME, Printer, text, wide};
use crate::value::ValueExt;

pub(super) static CLAIM: Printer = Printer {
    columns: &[
        NAME,
        text("Status"),
        text("Volume"),
        text("Capacity"),
        text("Access Modes"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
        AGE,
        wide("VolumeMode"),
    ],
    cells: |row| {
        let volume = row.text(&["spec", "volumeName"]);
        // What it has is only known once it is bound.
        let (capacity, modes) = if volume.is_empty() {
            (json!(""), String::new())
        } else {
            let modes = access_modes(row.object.list(&["status", "accessModes"]));
            (row.text_or(&["status", "capacity", "storage"], "0"), modes)
        };
        vec![
            row.name(),
            json!(phase(row)),
            json!(volume),
            capacity,
            json!(modes),
            json!(class(row)),
            row.text_or(&["spec", "volumeAttributesClassName"], "<unset>"),
            row.age(),
            row.text_or(&["spec", "volumeMode"], "<unset>"),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_claim_shows_what_it_got() {
        let mut claim = json!({"metadata": {"name": "d"}, "spec": {"storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Pending", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}});
        let show = |claim: &serde_json::Value| json!(CLAIM.row(claim, jiff::Timestamp::UNIX_EPOCH)[1..6]);
        assert_eq!(show(&claim), json!(["Pending", "", "", "", "fast"]));
        claim["spec"]["volumeName"] = json!("pv");
        claim["status"]["phase"] = json!("Bound");
        assert_eq!(show(&claim), json!(["Bound", "pv", "1Gi", "RWO,RWX", "fast"]));
    }
}
