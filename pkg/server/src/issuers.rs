//! Who is believed beside the cluster itself: issuers of tokens, tokens in a file, those that a webhook knows, and nobody.
//!
//! The issuers of a configuration file are read anew while the server runs; everything else is as it was at the start, as upstream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::Uri;
use http_body_util::BodyExt as _;
use kedge_auth::jwt::{
    AnonymousConfig, AuthenticationConfiguration, ClaimRule, Fetch, Issuer, Issuers, Jwt, JwtAuthenticator, Mappings,
    Prefixed,
};
use kedge_auth::{Connect as _, Reloads, StaticTokens, TokenAuthenticator, Version, WebhookTokens};
use kedge_base::{SharedClock, TaskGroup, time};
use kedge_client::{Client, ClusterAccess, HttpsTransport};
use tokio::sync::Mutex;
use tracing::{error, info};

use crate::error::Error;
use crate::reloading::{self, Reload, read_now, tree};
use crate::reviewers::Kubeconfigs;

/// What issuers publish is small.
const LARGEST: usize = 1 << 20;
const WITHIN: Duration = Duration::from_secs(30);
/// How long new issuers may take until all of them have said their keys, and how often they are asked, as upstream.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(10);
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
    /// A webhook that is asked about tokens.
    pub webhook: Option<TokenWebhookConfig>,
}

/// A webhook that knows tokens, as flags name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWebhookConfig {
    /// A kubeconfig.
    pub file: PathBuf,
    /// The version of the reviews that it is sent.
    pub version: String,
    /// How long its answers are kept.
    pub kept_for: Duration,
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
    pub(crate) webhook: Option<WebhookTokens>,
    pub(crate) anonymous: AnonymousConfig,
    pub(crate) reloads: Arc<Reloads>,
}

fn bad(what: &str, path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Setting(format!("{what} {}: {why}", path.display()))
}

/// Reads what is set, and follows the configuration file if there is one. `own` are issuers that nobody else may be, `server` is what
/// this one is called among others.
pub(crate) fn believed(
    config: &AuthenticationConfig,
    (own, server): (&[String], &str),
    (clock, tasks): (&SharedClock, &TaskGroup),
) -> Result<Believed, Error> {
    let mut tokens: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    let mut anonymous = AnonymousConfig { enabled: config.anonymous, conditions: Vec::new() };
    if let Some(path) = &config.tokens {
        let text = std::fs::read_to_string(path).map_err(|why| bad("token-auth-file", path, &why))?;
        let read = StaticTokens::read(&text).map_err(|why| bad("token-auth-file", path, &why))?;
        tokens.push(Arc::new(read));
    }
    if let Some(oidc) = &config.oidc {
        let jwt = oidc.authenticator()?;
        jwt.validate(own).map_err(Error::Setting)?;
        // As upstream, when nobody says.
        let usual = || vec!["RS256".to_owned()];
        let algorithms = if oidc.algorithms.is_empty() { usual() } else { oidc.algorithms.clone() };
        let jwt = Jwt::new(&jwt, &algorithms, Arc::new(Published), (clock, tasks)).map_err(Error::Setting)?;
        tokens.push(Arc::new(jwt));
    }
    let reloads = Arc::new(Reloads::new("authentication", server));
    if let Some(path) = &config.file {
        let what = "authentication-config";
        let data = read_now(path).map_err(|why| Error::Setting(format!("{what} {why}")))?;
        let reading = Reading { own: own.to_vec(), clock: clock.clone(), tasks: tasks.clone() };
        let (read, issuers) = reading.read(&data).map_err(|why| bad(what, path, &why))?;
        let issuers = Arc::new(Issuers::new(issuers));
        tokens.push(issuers.clone());
        reloads.in_force(&data);
        let (last, reloads) = (Mutex::new(data), reloads.clone());
        let reload = Reloading { reading, issuers, anonymous: read.anonymous.clone(), last, reloads };
        reloading::follow(what, path, Arc::new(reload), (clock, tasks));
        anonymous = read.anonymous.unwrap_or(anonymous);
    }
    let webhook = config.webhook.as_ref().map(|webhook| asking(webhook, (clock, tasks))).transpose()?;
    Ok(Believed { tokens, webhook, anonymous, reloads })
}

/// Who is asked about tokens that nobody else takes.
fn asking(config: &TokenWebhookConfig, (clock, tasks): (&SharedClock, &TaskGroup)) -> Result<WebhookTokens, Error> {
    let TokenWebhookConfig { file, version, kept_for } = config;
    let known = Version::named(version).ok_or_else(|| {
        let supported = "supported versions are \"v1\", \"v1beta1\"";
        Error::Setting(format!("unsupported authentication webhook version {version:?}, {supported}"))
    })?;
    let reviewer = Kubeconfigs::new(clock, tasks).connect(file);
    let reviewer = reviewer.map_err(|why| Error::Setting(format!("authentication-token-webhook-config-file {why}")))?;
    Ok(WebhookTokens::new(reviewer, known, *kept_for, (clock, &tasks.child("reviews of tokens"))))
}

/// How configurations are read.
struct Reading {
    own: Vec<String>,
    clock: SharedClock,
    tasks: TaskGroup,
}

impl Reading {
    fn read(&self, data: &[u8]) -> Result<(AuthenticationConfiguration, Vec<Jwt>), String> {
        let read = AuthenticationConfiguration::read(tree(data)?, &self.own)?;
        let made = |jwt| Jwt::new(jwt, &[], Arc::new(Published), (&self.clock, &self.tasks));
        let issuers = read.jwt.iter().map(made).collect::<Result<_, _>>()?;
        Ok((read, issuers))
    }
}

/// Takes the issuers of the file in again.
struct Reloading {
    reading: Reading,
    issuers: Arc<Issuers>,
    /// What the file said of those who ask without credentials, which stays.
    anonymous: Option<AnonymousConfig>,
    /// What it says that is in force, or that can never be.
    last: Mutex<Vec<u8>>,
    reloads: Arc<Reloads>,
}

#[async_trait]
impl Reload for Reloading {
    async fn take(&self, data: Result<Vec<u8>, String>) {
        let clock = &self.reading.clock;
        let mut last = self.last.lock().await;
        match self.reloaded(data, &mut last).await {
            Ok(false) => {}
            Ok(true) => {
                self.reloads.succeeded(&last, clock.now());
                info!("reloaded authentication config");
            }
            Err(why) => {
                self.reloads.failed(clock.now());
                error!(error = why, "reloading authentication config");
            }
        }
    }
}

impl Reloading {
    /// Whether there are other issuers now. What cannot be used is not looked at again; who does not answer is asked again.
    async fn reloaded(&self, data: Result<Vec<u8>, String>, last: &mut Vec<u8>) -> Result<bool, String> {
        let data = data?;
        if data == *last {
            return Ok(false);
        }
        let read = self.reading.read(&data).and_then(|(read, issuers)| match read.anonymous == self.anonymous {
            true => Ok(issuers),
            false => Err("anonymous: Forbidden: changed from initial configuration file".to_owned()),
        });
        let issuers = match read {
            Ok(issuers) => issuers,
            Err(why) => {
                *last = data;
                return Err(why);
            }
        };
        self.ready(&issuers).await?;
        self.issuers.replace(issuers);
        *last = data;
        Ok(true)
    }

    /// Waits until all issuers have said their keys: those before them are believed until then.
    async fn ready(&self, issuers: &[Jwt]) -> Result<(), String> {
        let clock = &self.reading.clock;
        let until = clock.monotonic() + PATIENCE;
        for issuer in issuers {
            while let Err(why) = issuer.ready().await {
                if clock.monotonic() + AGAIN > until {
                    return Err(why);
                }
                clock.sleep(AGAIN).await;
            }
        }
        Ok(())
    }
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
        time::timeout(WITHIN, got).await.unwrap_or_else(late)
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
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
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
