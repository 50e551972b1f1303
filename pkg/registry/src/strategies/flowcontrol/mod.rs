//! Priority and fairness.

pub(crate) mod flow_schema;
pub(crate) mod priority_level;
