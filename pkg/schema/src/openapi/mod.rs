//! OpenAPI documents, rendered from the table.
//!
//! INTERIM, by the owner. TWO WORKERS ARE IN THIS CRATE NOW:
//! - the original one (task "You own pkg/schema, pkg/patch, xtask/src/codegen.rs"): you finish `pkg/patch` and
//!   `xtask/src/codegen.rs`, make their tests pass, and then write your final report. You do NOT write openapi,
//!   descriptions, strategies or printers.
//! - the second one (task "You CONTINUE the crate pkg/schema"): you write this module, descriptions, then strategies and printers.

/// `/openapi/v3`.
pub fn v3_index() -> Vec<u8> {
    br#"{"paths":{}}"#.to_vec()
}

/// `/openapi/v3/<path>`.
pub fn v3_document(_path: &str) -> Option<bytes::Bytes> {
    None
}

/// `/openapi/v2`.
pub fn v2_document() -> bytes::Bytes {
    bytes::Bytes::from_static(
        br#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1.36.2"},"paths":{},"definitions":{}}"#,
    )
}
