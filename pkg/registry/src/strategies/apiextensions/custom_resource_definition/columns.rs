//! Printer columns and subresources, and the paths in them.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::super::super::validation::At;
use super::go;

const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// All columns of a version, or of all versions.
pub(super) fn columns(list: &[Value], path: &Path, errors: &mut ErrorList) {
    for (i, value) in list.iter().enumerate() {
        column(&At { value, path: path.child("additionalPrinterColumns").index(i) }, errors);
    }
}

fn column(at: &At<'_>, errors: &mut ErrorList) {
    let (name, kind, format) = (at.child("name"), at.child("type"), at.child("format"));
    if name.text().is_empty() {
        errors.push(name.required(""));
    }
    let types = format!("must be one of {}", TYPES.join(","));
    if kind.text().is_empty() {
        errors.push(kind.required(&types));
    } else if !TYPES.contains(&kind.text()) {
        errors.push(kind.invalid(types));
    }
    if !format.text().is_empty() && !FORMATS.contains(&format.text()) {
        errors.push(format.invalid(format!("must be one of {}", FORMATS.join(","))));
    }
    // Upstream calls the field as its first version did.
    let json_path = At { value: at.child("jsonPath").value, path: at.path.child("JSONPath") };
    if json_path.text().is_empty() {
        errors.push(json_path.required(""));
    } else {
        errors.extend(simple(&json_path));
    }
}

/// The subresources of a version, or of all versions.
pub(super) fn subresources(value: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let Some(value) = value else { return };
    let scale = At { value, path: path.child("subresources") }.child("scale");
    if !scale.is_set() {
        return;
    }
    for (field, below) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let at = scale.child(field);
        if at.text().is_empty() {
            errors.push(at.required(""));
        } else if let Some(error) = simple(&at) {
            errors.push(error);
        } else if !at.text().starts_with(&format!("{below}.")) {
            errors.push(at.invalid(format!("should be a json path under {below}")));
        }
    }
    let selector = scale.child("labelSelectorPath");
    let text = selector.text();
    if text.is_empty() {
        return;
    }
    if let Some(error) = simple(&selector) {
        errors.push(error);
    } else if !text.starts_with(".spec.") && !text.starts_with(".status.") {
        let why = "should be a json path under either .spec or .status";
        errors.push(Error::invalid(&selector.path, go::optional_text(Some(text)), why));
    }
}

/// What is wrong with a path of dots and names that is not empty.
fn simple(at: &At<'_>) -> Option<Error> {
    let dotted = at.text().starts_with('.');
    (!dotted).then(|| at.invalid("must be a simple json path starting with ."))
}
