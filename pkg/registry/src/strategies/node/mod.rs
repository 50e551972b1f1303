//! Runtime classes.

pub(crate) mod runtime_class;
