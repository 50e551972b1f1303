//! Kubeconfig files: cluster, user and context named `default`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::error::Error;
use crate::files::write_atomically;
use crate::leaf::Leaf;

/// What a kubeconfig says.
pub struct Kubeconfig<'a> {
    /// Such as `https://127.0.0.1:6443`.
    pub server: &'a str,
    /// PEM.
    pub certificate_authority: &'a str,
    pub user: Users<'a>,
}

/// How the user proves who it is.
pub enum Users<'a> {
    Certificate(&'a Leaf),
    Token(&'a str),
}

impl Kubeconfig<'_> {
    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, mode: u32) -> Result<(), Error> {
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(|source| Error::Io {
                action: "create directory",
                path: dir.to_owned(),
                source,
            })?;
        }
        let text = self.render().map_err(|e| Error::Parse { path: path.to_owned(), what: e.to_string() })?;
        write_atomically(path, text.as_bytes(), mode)
    }

    fn render(&self) -> Result<String, serde_yaml::Error> {
        let user = match &self.user {
            Users::Certificate(leaf) => json!({
                "client-certificate-data": STANDARD.encode(&leaf.certificate),
                "client-key-data": STANDARD.encode(&leaf.key),
            }),
            Users::Token(token) => json!({ "token": token }),
        };
        let cluster = json!({
            "certificate-authority-data": STANDARD.encode(self.certificate_authority),
            "server": self.server,
        });
        serde_yaml::to_string(&json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "default", "cluster": cluster }],
            "users": [{ "name": "default", "user": user }],
            "contexts": [{ "name": "default", "context": { "cluster": "default", "user": "default" } }],
            "current-context": "default",
            "preferences": {},
        }))
    }
}
