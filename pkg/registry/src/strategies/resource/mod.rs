//! Dynamic resource allocation.

use kedge_schema::ResourceInfo;

use crate::strategy::Strategy;

pub(crate) struct Dynamic;

impl Strategy for Dynamic {
    /// Of what drivers and administrators write; claims have none.
    fn has_generation(&self, resource: &ResourceInfo) -> bool {
        matches!(&*resource.plural, "deviceclasses" | "resourceslices")
    }
}
