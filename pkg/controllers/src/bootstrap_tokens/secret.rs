//! The secret of a bootstrap token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use kedge_meta::ObjectMeta;
use serde::{Deserialize, Deserializer};

use crate::objects::keyed;

const PREFIX: &str = "bootstrap-token-";

/// What is no text is nothing.
fn decoded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let bytes = STANDARD.decode(String::deserialize(deserializer)?).unwrap_or_default();
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct BootstrapSecret {
    pub(super) metadata: ObjectMeta,
    data: Data,
}
keyed!(BootstrapSecret);

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Data {
    #[serde(deserialize_with = "decoded")]
    token_id: String,
    #[serde(deserialize_with = "decoded")]
    token_secret: String,
    #[serde(deserialize_with = "decoded")]
    expiration: String,
    #[serde(deserialize_with = "decoded")]
    usage_bootstrap_signing: String,
}

/// How much of its time a token has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Forever,
    This(SignedDuration),
    /// Also when its end cannot be read.
    Nothing,
}

impl BootstrapSecret {
    pub(super) fn left(&self, now: Timestamp) -> Left {
        let end = &self.data.expiration;
        if end.is_empty() {
            return Left::Forever;
        }
        match kedge_base::time::parse(end) {
            Ok(end) if end > now => Left::This(end.duration_since(now)),
            _ => Left::Nothing,
        }
    }

    /// Identity and secret of a token that may sign.
    pub(super) fn signs(&self, now: Timestamp) -> Option<(&str, &str)> {
        let Data { token_id, token_secret, usage_bootstrap_signing, .. } = &self.data;
        let named = self.metadata.name.strip_prefix(PREFIX).filter(|id| is_id(id)) == Some(token_id.as_str());
        let may = named && !token_secret.is_empty() && usage_bootstrap_signing == "true";
        (may && self.left(now) != Left::Nothing).then_some((token_id, token_secret))
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    pub(in super::super) fn secret(id: &str, secret: &str, end: &str) -> BootstrapSecret {
        let encode = |text: &str| STANDARD.encode(text);
        let data = json!({
            "token-id": encode(id), "token-secret": encode(secret), "expiration": encode(end),
            "usage-bootstrap-signing": encode("true"), "other": encode("x"),
        });
        let metadata = json!({ "name": format!("{PREFIX}{id}"), "uid": "u" });
        serde_json::from_value(json!({ "metadata": metadata, "data": data })).unwrap()
    }

    #[test]
    fn an_end_that_cannot_be_read_has_passed() {
        let now: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let left = |end: &str| secret("abcdef", "s", end).left(now);
        assert_eq!(left(""), Left::Forever);
        assert_eq!(left("2026-03-04T06:06:08+01:00"), Left::This(SignedDuration::from_secs(1)));
        assert_eq!(left("2026-03-04T05:06:07Z"), Left::Nothing);
        assert_eq!(left("tomorrow"), Left::Nothing);
    }

    #[test]
    fn only_a_token_of_its_own_name_that_may_signs() {
        let now: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        assert_eq!(secret("abcdef", "s", "").signs(now), Some(("abcdef", "s")));
        let with = |change: fn(&mut BootstrapSecret)| {
            let mut secret = secret("abcdef", "s", "");
            change(&mut secret);
            secret.signs(now).is_some()
        };
        assert!(!with(|secret| secret.metadata.name = "bootstrap-token-abcdeg".into()));
        assert!(!with(|secret| secret.data.token_secret.clear()));
        assert!(!with(|secret| secret.data.usage_bootstrap_signing.clear()));
        assert!(!with(|secret| secret.data.expiration = "2026-01-01T00:00:00Z".into()));
    }
}
