//! Secrets.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report};
use super::config_map::{MAX_SIZE, decoded, decoded_len, immutable_data};
use crate::strategy::{Context, Strategy};

const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";
const REDACTED: &str = "<secret contents redacted>";

pub(crate) struct Secret;

impl Strategy for Secret {
    /// A secret without a type has that of before, for clients that never set it.
    fn prepare_for_update(&self, _ctx: &Context<'_>, new: &mut Value, old: &Value) {
        use crate::value::ValueExt as _;
        if new.text(&["type"]).is_empty() {
            new.set_or_remove("type", old.get("type").cloned());
        }
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let data = At::field(object, "data");
        let mut size = 0;
        for (key, at) in data.entries() {
            let complaints = names::is_config_map_key(key).into_iter();
            errors.extend(complaints.map(|complaint| Error::invalid(&at.path, key, complaint)));
            size += decoded_len(at.text());
        }
        if size > MAX_SIZE {
            errors.push(Error::too_long(&data.path, MAX_SIZE));
        }
        of_type(object, &data, &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.immutable(&At::field(new, "type"), &At::field(old, "type"));
        errors.extend(immutable_data(new, old, &["data"]));
        errors.extend(self.validate(ctx, new));
        errors
    }
}

fn of_type(object: &Value, data: &At<'_>, errors: &mut ErrorList) {
    let missing = |key: &str| Error::required(&data.path.key(key), "");
    let mut json = |key: &str| match data.child(key) {
        at if !at.is_set() => errors.push(missing(key)),
        at => {
            let bytes = decoded(at.text());
            if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
                errors.push(Error::invalid(&data.path.key(key), REDACTED, error.to_string()));
            }
        }
    };
    match At::field(object, "type").text() {
        "kubernetes.io/service-account-token" => {
            let annotations = At::field(object, "metadata").child("annotations");
            if annotations.child(ACCOUNT_ANNOTATION).text().is_empty() {
                errors.push(Error::required(&annotations.path.key(ACCOUNT_ANNOTATION), ""));
            }
        }
        "kubernetes.io/dockercfg" => json(".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json(".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !["username", "password"].iter().any(|key| data.child(key).is_set()) => {
            errors.extend(["username", "password"].map(missing));
        }
        "kubernetes.io/ssh-auth" if data.child("ssh-privatekey").text().is_empty() => {
            errors.push(missing("ssh-privatekey"));
        }
        "kubernetes.io/tls" => {
            errors.extend(["tls.crt", "tls.key"].into_iter().filter(|key| !data.child(key).is_set()).map(missing));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_have_keys_of_their_own() {
        let texts = |object: Value| {
            let mut errors = ErrorList::new();
            of_type(&object, &At::field(&object, "data"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(json!({"type": "kubernetes.io/tls", "data": {"tls.key": ""}})),
            ["data[tls.crt]: Required value"]
        );
        let bad = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}});
        assert!(texts(bad)[0].starts_with("data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": "));
        assert!(texts(json!({"type": "Opaque"})).is_empty());
    }
}
