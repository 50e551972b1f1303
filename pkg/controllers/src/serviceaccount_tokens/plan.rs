//! What a secret for a token lacks, and what it is with that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::objects::{Account, TokenSecret};

/// Annotations of the account that a secret is for.
pub(super) const NAME: &str = "kubernetes.io/service-account.name";
pub(super) const UID: &str = "kubernetes.io/service-account.uid";
/// Who issues tokens that have no end.
const ISSUER: &str = "kubernetes/serviceaccount";

/// What a secret lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Needs {
    pub(super) authority: bool,
    pub(super) namespace: bool,
    pub(super) token: bool,
}

impl Needs {
    pub(super) fn of(secret: &TokenSecret, root_ca: &str) -> Self {
        let data = &secret.data;
        Self {
            authority: !root_ca.is_empty() && *data.authority != *root_ca,
            namespace: !data.has_namespace,
            token: !data.has_token,
        }
    }

    pub(super) fn anything(self) -> bool {
        self != Self::default()
    }
}

/// What the token of a secret says, in the order in which upstream's says it.
pub(super) fn claims(account: &Account, secret: &str) -> Value {
    let metadata = &account.metadata;
    let mut claims = Map::new();
    for (claim, value) in [
        ("iss", ISSUER),
        ("kubernetes.io/serviceaccount/namespace", &metadata.namespace),
        ("kubernetes.io/serviceaccount/secret.name", secret),
        ("kubernetes.io/serviceaccount/service-account.name", &metadata.name),
        ("kubernetes.io/serviceaccount/service-account.uid", &metadata.uid),
        ("sub", &format!("system:serviceaccount:{}:{}", metadata.namespace, metadata.name)),
    ] {
        claims.insert(claim.to_owned(), value.into());
    }
    claims.into()
}

/// Puts what is needed into a secret as it was read.
pub(super) fn fill(secret: &mut Value, needs: &Needs, root_ca: &str, token: Option<&str>, account: &Account) {
    for (key, value) in [(NAME, &account.metadata.name), (UID, &account.metadata.uid)] {
        secret["metadata"]["annotations"][key] = json!(value);
    }
    if needs.authority {
        secret["data"]["ca.crt"] = json!(root_ca);
    }
    if needs.namespace {
        secret["data"]["namespace"] = json!(STANDARD.encode(&account.metadata.namespace));
    }
    if let Some(token) = token {
        secret["data"]["token"] = json!(STANDARD.encode(token));
    }
}

/// An account without its references to a secret; none when it has none.
pub(super) fn without_reference(mut account: Value, secret: &str) -> Option<Value> {
    let references = account.get_mut("secrets")?.as_array_mut()?;
    let before = references.len();
    references.retain(|reference| reference["name"] != *secret);
    let (changed, left) = (references.len() < before, !references.is_empty());
    if !left {
        account.as_object_mut()?.remove("secrets");
    }
    changed.then_some(account)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn account() -> Account {
        serde_json::from_value(json!({ "metadata": { "namespace": "n", "name": "a", "uid": "u" } })).unwrap()
    }

    #[test]
    fn a_secret_gets_what_it_lacks_and_keeps_what_it_has() {
        let mut secret =
            json!({ "metadata": { "name": "s", "annotations": { NAME: "a" } }, "data": { "own": "eA==" } });
        let slim = |secret: &Value| serde_json::from_value::<TokenSecret>(secret.clone()).unwrap();
        let needs = Needs::of(&slim(&secret), "Q0E=");
        assert_eq!(needs, Needs { authority: true, namespace: true, token: true });
        fill(&mut secret, &needs, "Q0E=", Some("t"), &account());
        let data = json!({ "own": "eA==", "ca.crt": "Q0E=", "namespace": "bg==", "token": "dA==" });
        assert_eq!((&secret["data"], &secret["metadata"]["annotations"][UID]), (&data, &json!("u")));
        assert!(!Needs::of(&slim(&secret), "Q0E=").anything());
        let other = Needs::of(&slim(&secret), "bmV3");
        assert_eq!(other, Needs { authority: true, ..Needs::default() }, "another authority");
        assert!(!Needs::of(&slim(&secret), "").anything(), "there is none to publish");
    }

    #[test]
    fn claims_are_those_of_upstream() {
        let claims = claims(&account(), "s").to_string();
        assert_eq!(
            claims,
            "{\"iss\":\"kubernetes/serviceaccount\",\"kubernetes.io/serviceaccount/namespace\":\"n\",\
             \"kubernetes.io/serviceaccount/secret.name\":\"s\",\"kubernetes.io/serviceaccount/service-account.name\":\"a\",\
             \"kubernetes.io/serviceaccount/service-account.uid\":\"u\",\"sub\":\"system:serviceaccount:n:a\"}"
        );
    }

    #[test]
    fn references_to_one_secret_go_and_others_stay() {
        let account = json!({ "secrets": [{ "name": "s" }, { "name": "t" }] });
        assert_eq!(without_reference(account.clone(), "s").unwrap(), json!({ "secrets": [{ "name": "t" }] }));
        assert!(without_reference(account, "u").is_none());
        assert_eq!(without_reference(json!({ "secrets": [{ "name": "s" }] }), "s").unwrap(), json!({}));
        assert!(without_reference(json!({}), "s").is_none());
    }

    #[test]
    fn a_secret_is_for_one_life_of_its_account() {
        let secret = |annotations: Value| -> TokenSecret {
            serde_json::from_value(json!({ "metadata": { "annotations": annotations } })).unwrap()
        };
        assert!(secret(json!({ NAME: "a" })).is_for("a", "u"), "not filled yet");
        assert!(secret(json!({ NAME: "a", UID: "u" })).is_for("a", "u"));
        assert!(!secret(json!({ NAME: "a", UID: "v" })).is_for("a", "u"));
        assert!(!secret(json!({ NAME: "b" })).is_for("a", "u"));
    }
}
