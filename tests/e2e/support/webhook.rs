//! A webhook in tests.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
pub use xtask::webhook::{Reply, allow};

/// A running webhook, with the directory of its keys.
pub struct Webhook {
    hook: xtask::webhook::Webhook,
    _dir: tempfile::TempDir,
}

impl Webhook {
    /// Starts one that answers so.
    pub fn start(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::Builder::new().prefix("kedge-hook-").tempdir().unwrap();
        Self { hook: xtask::webhook::Webhook::start(dir.path(), answer).unwrap(), _dir: dir }
    }
}

impl Deref for Webhook {
    type Target = xtask::webhook::Webhook;

    fn deref(&self) -> &Self::Target {
        &self.hook
    }
}

/// Refuses.
pub fn deny(why: &str) -> Reply {
    Reply::Response(json!({"allowed": false, "status": {"message": why, "code": 403, "reason": "Forbidden"}}))
}

/// Lets pass what it changes.
pub fn patch(operations: &Value) -> Reply {
    let patch = STANDARD.encode(operations.to_string());
    Reply::Response(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

/// A configuration, as a manifest.
pub fn configuration(kind: &str, name: &str, hooks: &[Value]) -> String {
    xtask::webhook::configuration(kind, name, hooks).to_string()
}
