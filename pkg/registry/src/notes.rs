//! What is said about a request on its way, beside its answer.

use std::sync::Arc;

use parking_lot::Mutex;

/// Warnings for the client and annotations for the audit, of one request: whoever works on it shares them, and they are there also
/// when the request fails.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    warnings: Vec<String>,
    annotations: Vec<(String, String)>,
}

/// Annotations of one request.
const ANNOTATIONS: usize = 256;
/// Warnings of one request; the client is shown fewer.
const WARNINGS: usize = 256;

impl Notes {
    /// Warns the client, of the same thing once.
    pub fn warn(&self, text: impl Into<String>) {
        let (text, mut said) = (text.into(), self.0.lock());
        if !text.is_empty() && said.warnings.len() < WARNINGS && !said.warnings.contains(&text) {
            said.warnings.push(text);
        }
    }

    /// Warns the client of several things.
    pub fn warn_all(&self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.warn(text));
    }

    /// Notes something for the audit. The first word on a key counts.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        let mut said = self.0.lock();
        if said.annotations.len() < ANNOTATIONS && !said.annotations.iter().any(|(known, _)| known == key) {
            said.annotations.push((key.to_owned(), value.into()));
        }
    }

    /// What the client is to be warned of.
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().warnings.clone()
    }

    /// What has been noted for the audit.
    pub fn annotations(&self) -> Vec<(String, String)> {
        self.0.lock().annotations.clone()
    }
}
