//! Custom resource definitions, and API services.

pub(crate) mod api_service;
pub(crate) mod custom_resource_definition;
