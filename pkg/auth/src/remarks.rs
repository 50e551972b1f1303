//! What is to be said of credentials beside whose they are: of one request, gathered while they are looked at.

use parking_lot::Mutex;

/// A secret whose token was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedSecret {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The day of its use, such as `2026-01-31`, in UTC.
    pub day: String,
}

/// A token of a service account that was shown, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownToken {
    /// Bound to a pod, which was given another one in time, or might have been.
    Valid,
    Stale,
    /// Of a secret.
    Legacy,
    /// Of one that was made for an account, or by somebody; or that is marked as invalid.
    LegacyAuto,
    LegacyManual,
    LegacyInvalid,
}

/// What was gathered.
#[derive(Debug, Default)]
pub struct Said {
    /// For the client.
    pub warnings: Vec<String>,
    /// For the audit: keys and values.
    pub annotations: Vec<(String, String)>,
    /// A secret on which this day is to be noted, since it does not say so yet.
    pub used: Option<UsedSecret>,
    /// What is to be counted.
    pub tokens: Vec<ShownToken>,
}

/// Where it is gathered; whoever looks at the credentials adds to it.
#[derive(Debug, Default)]
pub struct Remarks(Mutex<Said>);

// === impl Remarks ===

impl Remarks {
    pub(crate) fn warn(&self, text: &str) {
        self.with(|said| said.warnings.push(text.to_owned()));
    }

    pub(crate) fn annotate(&self, key: &str, value: impl Into<String>) {
        self.with(|said| said.annotations.push((key.to_owned(), value.into())));
    }

    pub(crate) fn used(&self, secret: UsedSecret) {
        self.with(|said| said.used = Some(secret));
    }

    pub(crate) fn count(&self, token: ShownToken) {
        self.with(|said| said.tokens.push(token));
    }

    fn with(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.0.lock());
    }

    /// What was said so far; from now on nothing has been.
    pub fn take(&self) -> Said {
        std::mem::take(&mut self.0.lock())
    }
}
