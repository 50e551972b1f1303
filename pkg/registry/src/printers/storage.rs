//! Storage classes, attachments and CSI objects.

use serde_json::{Value, json};

use super::row::{join, or};
use super::{AGE, NAME, PLAIN, Printer, boolean, integer, named, text};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    match plural {
        "csidrivers" => &DRIVER,
        "csinodes" => &NODE,
        "storageclasses" => &CLASS,
        "volumeattachments" => &ATTACHMENT,
        "volumeattributesclasses" => &ATTRIBUTES,
        _ => &PLAIN,
    }
}

static CLASS: Printer = Printer {
    columns: &[
        NAME,
        text("Provisioner"),
        text("ReclaimPolicy"),
        text("VolumeBindingMode"),
        text("AllowVolumeExpansion"),
        AGE,
    ],
    cells: |row| {
        let is_default =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
                .iter()
                .any(|key| row.text(&["metadata", "annotations", key]) == "true");
        let name = format!("{}{}", row.object.name(), if is_default { " (default)" } else { "" });
        vec![
            json!(name),
            row.text_or(&["provisioner"], ""),
            row.text_or(&["reclaimPolicy"], "Delete"),
            row.text_or(&["volumeBindingMode"], "Immediate"),
            json!(row.flag(&["allowVolumeExpansion"])),
            row.age(),
        ]
    },
};

static ATTACHMENT: Printer = Printer {
    columns: &[NAME, named("Attacher", 0), text("PV"), text("Node"), boolean("Attached"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.text_or(&["spec", "attacher"], ""),
            row.text_or(&["spec", "source", "persistentVolumeName"], ""),
            row.text_or(&["spec", "nodeName"], ""),
            json!(row.flag(&["status", "attached"])),
            row.age(),
        ]
    },
};

static ATTRIBUTES: Printer = Printer {
    columns: &[NAME, text("DriverName"), AGE],
    cells: |row| vec![row.name(), row.text_or(&["driverName"], ""), row.age()],
};

static NODE: Printer = Printer {
    columns: &[NAME, integer("Drivers"), AGE],
    cells: |row| vec![row.name(), json!(row.list(&["spec", "drivers"]).len()), row.age()],
};

static DRIVER: Printer = Printer {
    columns: &[
        NAME,
        boolean("AttachRequired"),
        boolean("PodInfoOnMount"),
        boolean("StorageCapacity"),
        text("TokenRequests"),
        boolean("RequiresRepublish"),
        text("Modes"),
        AGE,
    ],
    cells: |row| {
        let tokens = match row.object.at(&["spec", "tokenRequests"]).and_then(Value::as_array) {
            Some(requests) => join(requests.iter().map(|request| request.text(&["audience"])), ","),
            None => "<unset>".into(),
        };
        let modes = join(row.list(&["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str), ",");
        vec![
            row.name(),
            json!(row.object.flag(&["spec", "attachRequired"]).unwrap_or(true)),
            json!(row.flag(&["spec", "podInfoOnMount"])),
            json!(row.flag(&["spec", "storageCapacity"])),
            json!(tokens),
            json!(row.flag(&["spec", "requiresRepublish"])),
            json!(or(&modes, "<none>")),
            row.age(),
        ]
    },
};
