//! Bootstrap tokens, `<id>.<secret>`: secrets `bootstrap-token-<id>` in `kube-system`, by which nodes and tools that have no other
//! credential yet are known for a while.
//!
//! Invariant: a token that is not taken is nobody's: why is said to nobody, since it may have been guessed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kedge_meta::UserInfo;
use kedge_storage::ResourceStore;
use ring::digest;
use serde::Deserialize;

/// Where their secrets are, and what these are called.
const PREFIX: &str = "kube-system/bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of all that are known by such a token, and what other groups that they may be in begin with.
const GROUP: &str = "system:bootstrappers";
const GROUPS: &str = "system:bootstrappers:";
/// The rest of the name of a group has so many characters at most.
const LONGEST: usize = 256;
const ID: usize = 6;
const SECRET: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Secret {
    metadata: Metadata,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    deletion_timestamp: Option<String>,
}

/// In base64.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Data {
    token_id: String,
    token_secret: String,
    expiration: String,
    auth_extra_groups: String,
    usage_bootstrap_authentication: String,
}

/// Checks such tokens.
pub struct BootstrapTokens {
    secrets: ResourceStore,
}

// === impl BootstrapTokens ===

impl BootstrapTokens {
    /// With the cache of secrets.
    pub fn new(secrets: ResourceStore) -> Self {
        Self { secrets }
    }

    /// The user that a token stands for; none when it is no such token, or not one that is taken. `now` is in seconds since 1970.
    pub fn authenticate(&self, token: &str, now: i64) -> Option<UserInfo> {
        let (id, secret) = parse(token)?;
        let object = self.secrets.get(&format!("{PREFIX}{id}")).ok().flatten()?;
        let stored: Secret = serde_json::from_slice(&object.stored()).ok()?;
        user(&stored, id, secret, Timestamp::from_second(now).ok()?)
    }
}

/// Identity and secret.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let fits = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    (fits(id, ID) && fits(secret, SECRET)).then_some((id, secret))
}

fn user(stored: &Secret, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let Data { token_id, token_secret, expiration, auth_extra_groups, usage_bootstrap_authentication } = &stored.data;
    let taken = stored.metadata.deletion_timestamp.is_none()
        && stored.kind == TYPE
        && is_same(&decoded(token_secret)?, secret)
        && decoded(token_id)? == id
        && is_to_come(&decoded(expiration)?, now)
        && decoded(usage_bootstrap_authentication)? == "true";
    if !taken {
        return None;
    }
    let groups = groups(&decoded(auth_extra_groups)?)?;
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Some(UserInfo::new(format!("system:bootstrap:{id}"), &groups))
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

/// How long that takes tells nothing of where they differ.
fn is_same(one: &str, other: &str) -> bool {
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    hash(one).as_ref() == hash(other).as_ref()
}

/// Whether an end is none, or lies ahead. One that cannot be read has passed.
fn is_to_come(end: &str, now: Timestamp) -> bool {
    end.is_empty() || kedge_base::time::parse(end).is_ok_and(|end| end > now)
}

/// All groups of a token, in order; none when one of them is not for such tokens.
fn groups(extra: &str) -> Option<Vec<String>> {
    let mut groups = vec![GROUP.to_owned()];
    if !extra.is_empty() {
        for group in extra.split(',') {
            let rest = group.strip_prefix(GROUPS)?;
            let fits = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || matches!(byte, b':' | b'-');
            let ends = rest.bytes().last().is_some_and(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
            if rest.len() > LONGEST || !ends || !rest.bytes().all(fits) {
                return None;
            }
            groups.push(group.to_owned());
        }
    }
    groups.sort();
    groups.dedup();
    Some(groups)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_772_600_767, 0);

    fn secret() -> Secret {
        let encode = |text: &str| STANDARD.encode(text);
        Secret {
            kind: TYPE.into(),
            data: Data {
                token_id: encode("abcdef"),
                token_secret: encode("0123456789abcdef"),
                expiration: encode("2026-03-04T05:06:08Z"),
                auth_extra_groups: encode("system:bootstrappers:b,system:bootstrappers:a,system:bootstrappers:a"),
                usage_bootstrap_authentication: encode("true"),
            },
            ..Secret::default()
        }
    }

    fn taken(secret: &Secret) -> bool {
        user(secret, "abcdef", "0123456789abcdef", NOW).is_some()
    }

    #[test]
    fn a_token_stands_for_a_bootstrapper_until_its_end() {
        let found = user(&secret(), "abcdef", "0123456789abcdef", NOW).unwrap();
        assert_eq!(found.name, "system:bootstrap:abcdef");
        let groups = [GROUP, "system:bootstrappers:a", "system:bootstrappers:b", "system:authenticated"];
        assert_eq!(found.groups, groups);
        assert!(user(&secret(), "abcdef", "0123456789abcdeg", NOW).is_none(), "another secret");
        assert!(user(&secret(), "abcdef", "0123456789abcdef", NOW + jiff::SignedDuration::from_secs(1)).is_none());
        let with = |change: fn(&mut Secret)| {
            let mut secret = secret();
            change(&mut secret);
            taken(&secret)
        };
        assert!(with(|secret| secret.data.expiration.clear()), "it has no end");
        assert!(with(|secret| secret.data.auth_extra_groups.clear()));
        assert!(!with(|secret| secret.data.expiration = STANDARD.encode("soon")));
        assert!(!with(|secret| secret.data.usage_bootstrap_authentication.clear()));
        assert!(!with(|secret| secret.data.token_id = STANDARD.encode("abcdeg")));
        assert!(!with(|secret| secret.kind = "Opaque".into()));
        assert!(!with(|secret| secret.metadata.deletion_timestamp = Some("2026-03-04T00:00:00Z".into())));
        // No group but those of bootstrappers can be had by a secret of kube-system.
        assert!(!with(|secret| secret.data.auth_extra_groups = STANDARD.encode("system:masters")));
    }

    #[test]
    fn only_what_has_the_form_is_looked_for() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in
            ["abcdef", "abcde.0123456789abcdef", "abcdef.0123456789ABCDEF", "abcdef.0123456789abcdef.", "../..x.0"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn groups_end_with_a_letter_or_a_digit() {
        assert!(groups("system:bootstrappers:a-b:c").is_some());
        for bad in
            ["system:bootstrappers:", "system:bootstrappers:a-", "system:bootstrappers:A", "system:bootstrappers:a,"]
        {
            assert!(groups(bad).is_none(), "{bad}");
        }
        let long = |n: usize| format!("{GROUPS}{}", "a".repeat(n));
        assert!(groups(&long(256)).is_some() && groups(&long(257)).is_none());
    }
}
