//! AlwaysAdmit and AlwaysDeny: everything is let in, which is as it is without it, or nothing.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::{Attributes, Registry};

use crate::{Plugin, forbidden};

pub(crate) struct AlwaysAdmit;

impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }
}

pub(crate) struct AlwaysDeny;

const WHY: &str = "admission control is denying all modifications";

#[async_trait]
impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn mutates(&self, _: &Attributes<'_>) -> bool {
        true
    }

    fn validates(&self, _: &Attributes<'_>) -> bool {
        true
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Err(forbidden(attributes, WHY))
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        Err(forbidden(attributes, WHY))
    }
}
