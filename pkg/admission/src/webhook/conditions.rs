//! The conditions under which a webhook is called.

use kedge_registry::value::ValueExt as _;
use serde_json::Value;

/// The `matchConditions` of a webhook.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    names: Box<[Box<str>]>,
}

/// Whether all conditions hold, or what cannot be said of them.
pub(crate) type Verdict = Result<bool, String>;

impl Conditions {
    pub(crate) fn read(hook: &Value) -> Self {
        let conditions = hook.list(&["matchConditions"]).iter();
        Self { names: conditions.map(|condition| condition.text(&["name"]).into()).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether they hold for a request, which is told as the webhook would be told it. Expressions cannot be evaluated yet: the
    /// failure policy of the webhook says what that means.
    pub(crate) fn hold(&self, _review: &Value) -> Verdict {
        let names: Vec<String> = self.names.iter().map(|name| format!("{name:?}")).collect();
        Err(format!("expressions cannot be evaluated by this server: match conditions {}", names.join(", ")))
    }
}
