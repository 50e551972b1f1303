//! The names of a kind, wanted or accepted.

use kedge_meta::field::ErrorList;
use kedge_meta::names;

use super::super::super::validation::At;

/// What of `spec.names` must be there.
pub(super) fn required(at: &At<'_>, errors: &mut ErrorList) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = at.child(field);
        if name.text().is_empty() {
            errors.push(name.required(""));
        }
    }
}

/// `spec.names` or `status.acceptedNames`.
pub(super) fn names(at: &At<'_>, errors: &mut ErrorList) {
    let plain = |at: &At<'_>, errors: &mut ErrorList| {
        let complaints = names::is_dns1035_label(at.text());
        if !complaints.is_empty() {
            errors.push(at.invalid(complaints.join(",")));
        }
    };
    for field in ["plural", "singular"] {
        let name = at.child(field);
        if !name.text().is_empty() {
            plain(&name, errors);
        }
    }
    for field in ["kind", "listKind"] {
        let name = at.child(field);
        let complaints = names::is_dns1035_label(&name.text().to_lowercase());
        if !name.text().is_empty() && !complaints.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", complaints.join(","));
            errors.push(name.invalid(why));
        }
    }
    at.child("shortNames").items().for_each(|name| plain(&name, errors));
    let (kind, list) = (at.child("kind"), at.child("listKind"));
    if !kind.text().is_empty() && kind.text() == list.text() {
        errors.push(list.invalid("kind and listKind may not be the same"));
    }
    at.child("categories").items().for_each(|name| plain(&name, errors));
}
