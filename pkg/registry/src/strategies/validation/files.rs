//! Paths and modes of files.

use kedge_meta::field::ErrorList;

use super::{At, Report};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// A path that goes down only.
pub(crate) fn descending(at: &At<'_>, errors: &mut ErrorList) {
    if at.text().starts_with('/') {
        errors.push(at.invalid("must be a relative path"));
    }
    no_backsteps(at, errors);
}

pub(crate) fn no_backsteps(at: &At<'_>, errors: &mut ErrorList) {
    if at.text().split('/').any(|part| part == "..") {
        errors.push(at.invalid("must not contain '..'"));
    }
}

/// A path inside a volume that the kubelet writes.
pub(crate) fn local(at: &At<'_>, errors: &mut ErrorList) {
    descending(at, errors);
    if at.text().starts_with("..") && !at.text().starts_with("../") {
        errors.push(at.invalid("must not start with '..'"));
    }
}

pub(crate) fn mode(at: &At<'_>, errors: &mut ErrorList) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.push(at.invalid(MODE));
    }
}

/// Which key becomes which file.
pub(crate) fn key_to_path(at: &At<'_>, errors: &mut ErrorList) {
    errors.need_text(&at.child("key"));
    errors.need_text(&at.child("path"));
    local(&at.child("path"), errors);
    mode(&at.child("mode"), errors);
}
