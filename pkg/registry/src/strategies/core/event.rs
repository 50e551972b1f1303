//! Events go by themselves after an hour.

use kedge_schema::ResourceInfo;

use crate::strategy::Strategy;

const SECONDS: u64 = 3_600;

pub(crate) struct Event;

impl Strategy for Event {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn time_to_live(&self) -> Option<u64> {
        Some(SECONDS)
    }
}
