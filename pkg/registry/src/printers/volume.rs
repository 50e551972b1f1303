//! Persistent volumes.

use serde_json::{Value, json};

use super::row::{Row, or};
use super::{AGE, NAME, Printer, text, wide};
use crate::value::ValueExt;

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) static VOLUME: Printer = Printer {
    columns: &[
        NAME,
        text("Capacity"),
        text("Access Modes"),
        text("Reclaim Policy"),
        text("Status"),
        text("Claim"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
        text("Reason"),
        AGE,
        wide("VolumeMode"),
    ],
    cells: |row| {
        let claim = row.object.at(&["spec", "claimRef"]).filter(|claim| claim.is_object());
        let claim = claim.map_or(String::new(), |c| format!("{}/{}", c.text(&["namespace"]), c.text(&["name"])));
        vec![
            row.name(),
            row.text_or(&["spec", "capacity", "storage"], "0"),
            json!(access_modes(row.list(&["spec", "accessModes"]))),
            row.text_or(&["spec", "persistentVolumeReclaimPolicy"], ""),
            json!(phase(row)),
            json!(claim),
            json!(class(row)),
            row.text_or(&["spec", "volumeAttributesClassName"], "<unset>"),
            row.text_or(&["status", "reason"], ""),
            row.age(),
            row.text_or(&["spec", "volumeMode"], "<unset>"),
        ]
    },
};

pub(super) fn phase<'a>(row: &Row<'a>) -> &'a str {
    if row.is_deleted() { "Terminating" } else { row.text(&["status", "phase"]) }
}

/// The storage class, under its old name or its new one.
pub(super) fn class<'a>(row: &Row<'a>) -> &'a str {
    or(row.text(&["metadata", "annotations", CLASS_ANNOTATION]), row.text(&["spec", "storageClassName"]))
}

/// `RWO,ROX`: each once, in upstream's order.
pub(super) fn access_modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let short = SHORT.iter().filter(|(mode, _)| modes.iter().any(|m| m == mode)).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}
