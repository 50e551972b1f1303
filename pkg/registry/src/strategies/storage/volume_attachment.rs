//! Attachments of volumes to nodes.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        errors.need_text(&spec.child("attacher"));
        errors.need_name(&spec.child("nodeName"), names::is_dns1123_subdomain);
        let source = spec.child("source");
        let (inline, named) = (source.child("inlineVolumeSpec"), source.child("persistentVolumeName"));
        match (inline.is_set(), named.is_set()) {
            (false, false) => {
                errors.push(source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName"));
            }
            (true, true) => {
                errors.push(source.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
            }
            (false, true) if named.text().is_empty() => {
                errors.push(named.required("must specify non empty persistentVolumeName"));
            }
            _ => {}
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let spec = At::field(new, "spec");
        if spec.value != At::field(old, "spec").value {
            errors.push(Error::invalid(&spec.path, spec.value, "field is immutable"));
        }
        errors
    }
}
