//! Pod templates as objects of their own.

use kedge_meta::field::ErrorList;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, template};
use crate::strategy::{Context, Strategy};

pub(crate) struct PodTemplate;

impl Strategy for PodTemplate {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        template::pod_template(&At::field(object, "template"), &mut errors);
        errors
    }
}
