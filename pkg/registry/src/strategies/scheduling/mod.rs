//! Priority classes.

pub(crate) mod priority_class;
