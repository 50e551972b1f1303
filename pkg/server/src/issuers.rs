//! Who is believed beside the cluster itself: issuers of tokens, tokens in a file, and nobody.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::Uri;
use http_body_util::BodyExt as _;
use kedge_auth::jwt::{
    AnonymousConfig, AuthenticationConfiguration, ClaimRule, Fetch, Issuer, Jwt, JwtAuthenticator, Mappings, Prefixed,
};
use kedge_auth::{StaticTokens, TokenAuthenticator};
use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, ClusterAccess, HttpsTransport};

use crate::error::Error;

/// What issuers publish is small.
const LARGEST: usize = 1 << 20;
const WITHIN: Duration = Duration::from_secs(30);
/// Where distributions keep what the host trusts.
const TRUSTED: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Settings of authentication.
#[derive(Debug, Clone, Default)]
pub struct AuthenticationConfig {
    /// An `AuthenticationConfiguration`.
    pub file: Option<PathBuf>,
    /// The one issuer that flags name, instead.
    pub oidc: Option<OidcConfig>,
    /// Lines of token, user and groups.
    pub tokens: Option<PathBuf>,
    /// Whether somebody may ask who is nobody.
    pub anonymous: bool,
}

/// An issuer as flags name it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OidcConfig {
    pub issuer: String,
    pub client: String,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub required: Vec<(String, String)>,
    pub algorithms: Vec<String>,
    pub authority: Option<PathBuf>,
}

/// Who knows tokens, and who may ask without any.
pub(crate) struct Believed {
    pub(crate) tokens: Vec<Arc<dyn TokenAuthenticator>>,
    pub(crate) anonymous: AnonymousConfig,
}

/// Reads what is set.
pub(crate) fn believed(
    config: &AuthenticationConfig,
    own: &[String],
    (clock, tasks): (&SharedClock, &TaskGroup),
) -> Result<Believed, Error> {
    let mut tokens: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    let mut anonymous = AnonymousConfig { enabled: config.anonymous, conditions: Vec::new() };
    let bad = |what: &str, path: &Path, why: &dyn std::fmt::Display| {
        Error::Setting(format!("{what} {}: {why}", path.display()))
    };
    if let Some(path) = &config.tokens {
        let text = std::fs::read_to_string(path).map_err(|why| bad("token-auth-file", path, &why))?;
        let read = StaticTokens::read(&text).map_err(|why| bad("token-auth-file", path, &why))?;
        tokens.push(Arc::new(read));
    }
    let fetch: Arc<dyn Fetch> = Arc::new(Published);
    if let Some(oidc) = &config.oidc {
        let jwt = oidc.authenticator()?;
        jwt.validate(own).map_err(Error::Setting)?;
        // As upstream, when nobody says.
        let usual = || vec!["RS256".to_owned()];
        let algorithms = if oidc.algorithms.is_empty() { usual() } else { oidc.algorithms.clone() };
        let jwt = Jwt::new(&jwt, &algorithms, fetch.clone(), (clock, tasks)).map_err(Error::Setting)?;
        tokens.push(Arc::new(jwt));
    }
    if let Some(path) = &config.file {
        let what = "authentication-config";
        let text = std::fs::read_to_string(path).map_err(|why| bad(what, path, &why))?;
        let value = serde_yaml::from_str(&text).map_err(|why| bad(what, path, &why))?;
        let read = AuthenticationConfiguration::read(value, own).map_err(|why| bad(what, path, &why))?;
        for jwt in &read.jwt {
            let jwt = Jwt::new(jwt, &[], fetch.clone(), (clock, tasks)).map_err(|why| bad(what, path, &why))?;
            tokens.push(Arc::new(jwt));
        }
        anonymous = read.anonymous.unwrap_or(anonymous);
    }
    Ok(Believed { tokens, anonymous })
}

impl OidcConfig {
    /// The same as a configuration has it.
    fn authenticator(&self) -> Result<JwtAuthenticator, Error> {
        let claim = if self.username_claim.is_empty() { "sub" } else { &self.username_claim };
        // As upstream: names of an issuer do not collide with others, unless that is wanted.
        let prefix = match self.username_prefix.as_str() {
            "-" => String::new(),
            "" if claim != "email" => format!("{}#", self.issuer),
            prefix => prefix.to_owned(),
        };
        let authority = match &self.authority {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|why| Error::Setting(format!("oidc-ca-file {}: {why}", path.display())))?,
            None => String::new(),
        };
        let prefixed = |claim: &str, prefix: String| Prefixed {
            claim: claim.to_owned(),
            prefix: Some(prefix),
            expression: String::new(),
        };
        let rule = |(claim, value): &(String, String)| ClaimRule {
            claim: claim.clone(),
            required_value: value.clone(),
            ..ClaimRule::default()
        };
        let groups = match self.groups_claim.as_str() {
            "" => Prefixed::default(),
            claim => prefixed(claim, self.groups_prefix.clone()),
        };
        Ok(JwtAuthenticator {
            issuer: Issuer {
                url: self.issuer.clone(),
                certificate_authority: authority,
                audiences: vec![self.client.clone()],
                ..Issuer::default()
            },
            claim_validation_rules: self.required.iter().map(rule).collect(),
            claim_mappings: Mappings { username: prefixed(claim, prefix), groups, ..Mappings::default() },
            user_validation_rules: Vec::new(),
        })
    }
}

/// What is published on the network.
struct Published;

#[async_trait]
impl Fetch for Published {
    async fn get(&self, url: &str, authority: &str) -> Result<Bytes, String> {
        let got = get(url, authority);
        let late = |_| Err(format!("{url}: no answer within {} s", WITHIN.as_secs()));
        kedge_base::time::timeout(WITHIN, got).await.unwrap_or_else(late)
    }
}

async fn get(url: &str, authority: &str) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|why| format!("{url}: {why}"))?;
    let place = uri.authority().ok_or_else(|| format!("{url} names no host"))?;
    let certificate_authority = if authority.is_empty() { trusted().await? } else { authority.as_bytes().to_vec() };
    let access =
        ClusterAccess { server: format!("https://{place}"), certificate_authority, ..ClusterAccess::default() };
    let transport = HttpsTransport::new(&access).map_err(|why| format!("{url}: {why}"))?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = http::Request::get(path).header(http::header::ACCEPT, "application/json").body(Bytes::new());
    let request = request.map_err(|why| format!("{url}: {why}"))?;
    let answer = Client::new(Arc::new(transport)).send_as_it_is(request).await;
    let answer = answer.map_err(|why| format!("{url}: {}", with_causes(&why)))?;
    if !answer.status().is_success() {
        return Err(format!("{url}: {}", answer.status()));
    }
    let (mut body, mut read) = (answer.into_body(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| format!("{url}: {why}"))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > LARGEST {
                return Err(format!("{url}: more than {LARGEST} bytes"));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// An error and what has caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The authorities that the host trusts.
async fn trusted() -> Result<Vec<u8>, String> {
    let read = || {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let all = named.into_iter().chain(TRUSTED.iter().map(PathBuf::from));
        all.into_iter().find_map(|path| std::fs::read(path).ok())
    };
    let read = kedge_base::blocking::unbounded("trusted authorities", read).await.map_err(|why| why.to_string())?;
    read.ok_or_else(|| "this host has no file of authorities that it trusts; name one for the issuer".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_an_issuer_have_its_prefix_unless_that_is_not_wanted() {
        let prefix = |claim: &str, prefix: &str| {
            let oidc = OidcConfig {
                issuer: "https://i".into(),
                username_claim: claim.into(),
                username_prefix: prefix.into(),
                ..OidcConfig::default()
            };
            let username = oidc.authenticator().unwrap().claim_mappings.username;
            (username.claim, username.prefix.unwrap())
        };
        let pair = |claim: &str, prefix: &str| (claim.to_owned(), prefix.to_owned());
        assert_eq!(prefix("", ""), pair("sub", "https://i#"));
        assert_eq!(prefix("email", ""), pair("email", ""));
        assert_eq!(prefix("name", "-"), pair("name", ""));
        assert_eq!(prefix("name", "x:"), pair("name", "x:"));
    }
}
