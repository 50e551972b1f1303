//! `kedge token`: bootstrap tokens, which are secrets in `kube-system`, through the API.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kedge_base::{random, time};
use kedge_client::{Client, ClusterAccess, DeleteOptions, ListParams};
use kedge_meta::resources;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::CommandError;
use crate::token::Token;

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const USAGE: &str = "usage-bootstrap-";
const GROUPS: &str = "system:bootstrappers:";
const ID: usize = 6;
const SECRET: usize = 16;
const CHARACTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A token that is to be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// None for a new one.
    pub token: Option<String>,
    pub description: String,
    pub groups: Vec<String>,
    /// As Go writes durations; zero for no end.
    pub ttl: String,
    pub usages: Vec<String>,
}

/// A token that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootstrapToken {
    pub token: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Secret {
    metadata: Metadata,
    data: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

/// A new token that nobody knows.
pub fn generate_token() -> String {
    let part = |length: usize| -> String {
        // Of the values of a byte as many belong to each character; the few that are left over are drawn again.
        let fair = |byte: &u8| usize::from(*byte) < 256 / CHARACTERS.len() * CHARACTERS.len();
        let bytes = std::iter::repeat_with(random::bytes::<32>).flatten().filter(fair);
        bytes.take(length).map(|byte| char::from(CHARACTERS[usize::from(byte) % CHARACTERS.len()])).collect()
    };
    format!("{}.{}", part(ID), part(SECRET))
}

/// Makes a token on a server. Returns it in the form that also names the cluster's authority.
///
/// # Errors
/// When it has no form, there is one with its identity, or the server cannot be asked.
pub async fn create_token(kubeconfig: &Path, new: &NewToken, now: Timestamp) -> Result<String, CommandError> {
    let token = new.token.clone().unwrap_or_else(generate_token);
    let (id, secret) = parts(&token).ok_or_else(|| {
        CommandError::Token(format!(
            "the bootstrap token is not of the form {:?}",
            r"\A([a-z0-9]{6})\.([a-z0-9]{16})\z"
        ))
    })?;
    let data = data(new, (id, secret), now)?;
    let access = ClusterAccess::from_file(kubeconfig)?;
    let client = Client::from_kubeconfig(kubeconfig)?;
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": TYPE,
        "metadata": { "name": format!("{PREFIX}{id}"), "namespace": NAMESPACE }, "data": data,
    });
    match client.create::<Value>(&resources::SECRETS, NAMESPACE, &object).await {
        Err(err) if err.is_already_exists() => {
            Err(CommandError::Token(format!("a token with id {id:?} already exists")))
        }
        Err(err) => Err(CommandError::Client(err)),
        Ok(_) => Ok(Token::naming(&String::from_utf8_lossy(&access.certificate_authority), &token)),
    }
}

/// Deletes a token, by itself or its identity. Returns the identity.
///
/// # Errors
/// When it is neither, is not there, or the server cannot be asked.
pub async fn delete_token(kubeconfig: &Path, token: &str) -> Result<String, CommandError> {
    // Also in the form that names an authority.
    let short = token.rsplit("::").next().unwrap_or(token);
    let id = parts(short).map_or(short, |(id, _)| id);
    if !is_of(id, ID) {
        return Err(CommandError::Token(format!(
            "given token didn't match pattern {:?} or {:?}",
            r"\A([a-z0-9]{6})\z", r"\A([a-z0-9]{6})\.([a-z0-9]{16})\z"
        )));
    }
    let client = Client::from_kubeconfig(kubeconfig)?;
    let name = format!("{PREFIX}{id}");
    let deleted = client.delete(&resources::SECRETS, NAMESPACE, &name, &DeleteOptions::default()).await;
    deleted.map_err(|err| CommandError::Token(format!("failed to delete bootstrap token {id:?}: {err}")))?;
    Ok(id.to_owned())
}

/// The tokens on a server, and why secrets that look like tokens are none.
///
/// # Errors
/// When the server cannot be asked.
pub async fn list_tokens(kubeconfig: &Path) -> Result<(Vec<BootstrapToken>, Vec<String>), CommandError> {
    let client = Client::from_kubeconfig(kubeconfig)?;
    let only_tokens = ListParams::fields(format!("type={TYPE}"));
    let found = client.list::<Secret>(&resources::SECRETS, NAMESPACE, &only_tokens).await;
    let (mut tokens, mut others) = (Vec::new(), Vec::new());
    for secret in found.map_err(CommandError::Client)?.items {
        match read(&secret) {
            Ok(token) => tokens.push(token),
            Err(why) => others.push(why),
        }
    }
    Ok((tokens, others))
}

/// Puts another token in the place of the cluster's; with `old`, only if that is the one that there is.
///
/// # Errors
/// When the server cannot be asked, or refuses.
pub async fn rotate_token(kubeconfig: &Path, old: Option<&str>, new: Option<&str>) -> Result<(), CommandError> {
    let client = Client::from_kubeconfig(kubeconfig)?;
    let body = json!({ "token": old, "newToken": new }).to_string();
    let response =
        client.open(http::Method::PUT, "/kedge/v1/token", body.into()).await.map_err(CommandError::Client)?;
    super::collect(response).await.map(drop)
}

/// Identity and secret.
fn parts(token: &str) -> Option<(&str, &str)> {
    token.split_once('.').filter(|(id, secret)| is_of(id, ID) && is_of(secret, SECRET))
}

fn is_of(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| CHARACTERS.contains(&byte))
}

/// What the secret of a token holds, in base64.
fn data(new: &NewToken, (id, secret): (&str, &str), now: Timestamp) -> Result<Map<String, Value>, CommandError> {
    let ttl = time::go_duration(&new.ttl)
        .ok_or_else(|| CommandError::Token(format!("--ttl {:?} is no duration such as 3h", new.ttl)))?;
    let other =
        |group: &&String| !group.starts_with(GROUPS) || group.ends_with([':', '-']) || group.len() > GROUPS.len() + 256;
    if let Some(bad) = new.groups.iter().find(other) {
        return Err(CommandError::Token(format!("bootstrap group {bad:?} is invalid (must begin with {GROUPS})")));
    }
    let mut texts = vec![("token-id".to_owned(), id.to_owned()), ("token-secret".to_owned(), secret.to_owned())];
    texts.extend(new.usages.iter().map(|usage| (format!("{USAGE}{usage}"), "true".to_owned())));
    if !new.description.is_empty() {
        texts.push(("description".into(), new.description.clone()));
    }
    if ttl > Duration::ZERO {
        let end = now.checked_add(ttl).map_err(|_| CommandError::Token(format!("--ttl {:?} is too long", new.ttl)))?;
        texts.push(("expiration".into(), time::rfc3339(end)));
    }
    if !new.groups.is_empty() {
        texts.push(("auth-extra-groups".into(), new.groups.join(",")));
    }
    Ok(texts.into_iter().map(|(key, text)| (key, STANDARD.encode(text).into())).collect())
}

/// The token of a secret.
fn read(secret: &Secret) -> Result<BootstrapToken, String> {
    let name = &secret.metadata.name;
    let decoded =
        |encoded: &String| String::from_utf8(STANDARD.decode(encoded).unwrap_or_default()).unwrap_or_default();
    let text = |key: &str| secret.data.get(key).map(decoded).unwrap_or_default();
    let id = text("token-id");
    if name.strip_prefix(PREFIX) != Some(&id) {
        return Err(format!("secret {name} is no bootstrap token: it is not named {PREFIX} and its token-id"));
    }
    let token = format!("{id}.{}", text("token-secret"));
    if parts(&token).is_none() {
        return Err(format!("secret {name} is no bootstrap token: its token-secret is none"));
    }
    let expires = Some(text("expiration")).filter(|end| !end.is_empty());
    if expires.as_ref().is_some_and(|end| time::parse(end).is_err()) {
        return Err(format!("secret {name} is no bootstrap token: its expiration is no time"));
    }
    let usages = secret.data.iter().filter(|(_, value)| decoded(value) == "true");
    let usages = usages.filter_map(|(key, _)| key.strip_prefix(USAGE).map(str::to_owned)).collect();
    let groups = text("auth-extra-groups");
    let groups = groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect();
    Ok(BootstrapToken { token, description: text("description"), expires, usages, groups })
}

/// Tokens as `json`, as `yaml`, or as a table for people, which tells nothing of their secrets.
///
/// # Errors
/// When they cannot be written so.
pub fn describe_tokens(tokens: &[BootstrapToken], output: &str, now: Timestamp) -> Result<String, CommandError> {
    let cannot = |err: &dyn std::fmt::Display| CommandError::Print(std::io::Error::other(err.to_string()));
    match output {
        "json" => Ok(serde_json::to_string(tokens).map_err(|err| cannot(&err))? + "\n"),
        "yaml" => serde_yaml::to_string(tokens).map_err(|err| cannot(&err)),
        _ => Ok(table(tokens, now)),
    }
}

fn table(tokens: &[BootstrapToken], now: Timestamp) -> String {
    let mut rows = vec![["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(str::to_owned)];
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    for token in tokens {
        let end = token.expires.as_ref().and_then(|end| time::parse(end).ok());
        rows.push([
            token.token.split('.').next().unwrap_or_default().to_owned(),
            end.map_or("<forever>".to_owned(), |end| short(end.duration_since(now).as_secs())),
            token.expires.clone().unwrap_or("<never>".to_owned()),
            or_none(token.usages.join(",")),
            or_none(token.description.clone()),
            or_none(token.groups.join(",")),
        ]);
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or_default().max(10);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let padded = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}")).collect::<String>();
        format!("{padded}{}\n", row[5])
    };
    rows.iter().map(line).collect()
}

/// A duration in one unit.
fn short(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        "2026-03-04T05:06:07Z".parse().unwrap()
    }

    fn new() -> NewToken {
        NewToken {
            token: None,
            description: "for the new rack".into(),
            groups: vec!["system:bootstrappers:kedge:default-node-token".into()],
            ttl: "24h".into(),
            usages: vec!["signing".into(), "authentication".into()],
        }
    }

    #[test]
    fn a_new_token_has_the_form_and_is_another_each_time() {
        let token = generate_token();
        assert!(parts(&token).is_some(), "{token}");
        assert_ne!(token, generate_token());
        assert!(parts("abcdef.0123456789abcde").is_none() && parts("ABCDEF.0123456789abcdef").is_none());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let data = data(&new(), ("abcdef", "0123456789abcdef"), now()).unwrap();
        let data = serde_json::from_value(data.into()).unwrap();
        let mut secret = Secret { metadata: Metadata { name: "bootstrap-token-abcdef".into() }, data };
        let token = read(&secret).unwrap();
        assert_eq!(token.token, "abcdef.0123456789abcdef");
        assert_eq!(token.expires.as_deref(), Some("2026-03-05T05:06:07Z"));
        assert_eq!(
            (token.usages.as_slice(), token.groups),
            (&["authentication".to_owned(), "signing".into()][..], new().groups)
        );
        secret.metadata.name = "bootstrap-token-abcdeg".into();
        assert!(read(&secret).is_err());
    }

    #[test]
    fn what_makes_no_token_is_refused() {
        let refused = |new: &NewToken| data(new, ("abcdef", "0123456789abcdef"), now()).unwrap_err().to_string();
        assert!(refused(&NewToken { ttl: "soon".into(), ..new() }).contains("--ttl"));
        assert!(refused(&NewToken { groups: vec!["system:masters".into()], ..new() }).contains("system:masters"));
        let forever = data(&NewToken { ttl: "0".into(), ..new() }, ("abcdef", "0123456789abcdef"), now()).unwrap();
        assert!(!forever.contains_key("expiration"));
    }

    #[test]
    fn tokens_are_told_without_their_secrets() {
        let token = BootstrapToken {
            token: "abcdef.0123456789abcdef".into(),
            description: String::new(),
            expires: Some("2026-03-05T05:06:06Z".into()),
            usages: vec!["authentication".into(), "signing".into()],
            groups: Vec::new(),
        };
        let text = table(&[token.clone(), BootstrapToken { expires: None, ..token }], now());
        assert_eq!(
            text,
            "TOKEN     TTL         EXPIRES                USAGES                   DESCRIPTION   EXTRA GROUPS\n\
             abcdef    23h         2026-03-05T05:06:06Z   authentication,signing   <none>        <none>\n\
             abcdef    <forever>   <never>                authentication,signing   <none>        <none>\n"
        );
        assert_eq!((short(-5), short(59), short(86_400)), ("<invalid>".into(), "59s".into(), "1d".to_owned()));
    }
}
