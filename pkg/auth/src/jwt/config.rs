//! `apiserver.config.k8s.io.AuthenticationConfiguration`: whose tokens are believed, and what they say of users.

use kedge_meta::names;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::claims::{Expression, Of};

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfiguration {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    pub jwt: Vec<JwtAuthenticator>,
    /// Who asks without credentials; none leaves it to the flag.
    pub anonymous: Option<AnonymousConfig>,
}

/// Whether somebody may ask who is nobody, and for what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnonymousConfig {
    pub enabled: bool,
    /// Paths; none are all.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    pub path: String,
}

/// Who issues tokens, and how they are read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtAuthenticator {
    pub issuer: Issuer,
    #[serde(default)]
    pub claim_validation_rules: Vec<ClaimRule>,
    pub claim_mappings: Mappings,
    #[serde(default)]
    pub user_validation_rules: Vec<UserRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Issuer {
    pub url: String,
    /// Where the issuer says what it is, if that is elsewhere.
    #[serde(rename = "discoveryURL")]
    pub discovery_url: String,
    /// PEM; empty for what the host trusts.
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    pub audience_match_policy: String,
    pub egress_selector_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimRule {
    pub claim: String,
    pub required_value: String,
    pub expression: String,
    pub message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserRule {
    pub expression: String,
    pub message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mappings {
    pub username: Prefixed,
    pub groups: Prefixed,
    pub uid: Plain,
    pub extra: Vec<Extra>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Prefixed {
    pub claim: String,
    pub prefix: Option<String>,
    pub expression: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Plain {
    pub claim: String,
    pub expression: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Extra {
    pub key: String,
    pub value_expression: String,
}

const GROUP: &str = "apiserver.config.k8s.io/";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
/// As upstream.
const MOST: usize = 64;

impl AuthenticationConfiguration {
    /// From the tree of a file. `own` are issuers that nobody else may be.
    ///
    /// # Errors
    /// All that is wrong with it, by path.
    pub fn read(value: serde_json::Value, own: &[String]) -> Result<Self, String> {
        let read: Self = serde_json::from_value(value).map_err(|why| why.to_string())?;
        let version = read.api_version.strip_prefix(GROUP).unwrap_or_default();
        if read.kind != "AuthenticationConfiguration" || !VERSIONS.contains(&version) {
            let (version, kind) = (&read.api_version, &read.kind);
            return Err(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        let wrong = read.wrong(own);
        match wrong.as_slice() {
            [] => Ok(read),
            [one] => Err(one.clone()),
            all => Err(format!("[{}]", all.join(", "))),
        }
    }

    fn wrong(&self, own: &[String]) -> Vec<String> {
        let mut wrong = Wrong::default();
        if self.jwt.len() > MOST {
            wrong.say("jwt", format!("Too many: {}: must have at most {MOST} items", self.jwt.len()));
        }
        let mut issuers = Vec::new();
        for (at, jwt) in self.jwt.iter().enumerate() {
            let path = format!("jwt[{at}]");
            jwt.check(&path, own, &mut wrong);
            for (field, url) in [("url", &jwt.issuer.url), ("discoveryURL", &jwt.issuer.discovery_url)] {
                if !url.is_empty() && issuers.contains(&(field, url)) {
                    wrong.say(format!("{path}.issuer.{field}"), format!("Duplicate value: {url:?}"));
                }
                issuers.push((field, url));
            }
        }
        if self.anonymous.as_ref().is_some_and(|it| !it.enabled && !it.conditions.is_empty()) {
            wrong.say(
                "anonymous.conditions",
                "Invalid value: enabled should be set to true when conditions are defined",
            );
        }
        wrong.0
    }
}

/// What is wrong, with paths.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn say(&mut self, path: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.0.push(format!("{path}: {what}"));
    }

    fn invalid(&mut self, path: impl std::fmt::Display, value: &str, why: impl std::fmt::Display) {
        self.say(path, format_args!("Invalid value: {value:?}: {why}"));
    }

    fn expression(&mut self, path: impl std::fmt::Display, text: &str, of: Of) {
        if let Err(why) = Expression::compile(text, of) {
            self.invalid(path, text, why);
        }
    }
}

impl JwtAuthenticator {
    /// What is wrong with one that stands alone.
    ///
    /// # Errors
    /// All of it.
    pub fn validate(&self, own: &[String]) -> Result<(), String> {
        let mut wrong = Wrong::default();
        self.check("oidc", own, &mut wrong);
        if wrong.0.is_empty() { Ok(()) } else { Err(wrong.0.join(", ")) }
    }

    fn check(&self, path: &str, own: &[String], wrong: &mut Wrong) {
        self.issuer.check(&format!("{path}.issuer"), own, wrong);
        let mut seen = Vec::new();
        for (at, rule) in self.claim_validation_rules.iter().enumerate() {
            let path = format!("{path}.claimValidationRules[{at}]");
            rule.check(&path, wrong);
            let key = (&rule.claim, &rule.expression);
            if seen.contains(&key) {
                let (field, value) =
                    if rule.claim.is_empty() { ("expression", &rule.expression) } else { ("claim", &rule.claim) };
                wrong.say(format!("{path}.{field}"), format!("Duplicate value: {value:?}"));
            }
            seen.push(key);
        }
        self.claim_mappings.check(&format!("{path}.claimMappings"), wrong);
        self.check_email(path, wrong);
        for (at, rule) in self.user_validation_rules.iter().enumerate() {
            let path = format!("{path}.userValidationRules[{at}].expression");
            match rule.expression.as_str() {
                "" => wrong.say(path, "Required value"),
                text if self.user_validation_rules[..at].iter().any(|before| before.expression == text) => {
                    wrong.say(path, format!("Duplicate value: {text:?}"));
                }
                text => wrong.expression(path, text, Of::UserRule),
            }
        }
    }

    /// An address that nobody has verified is no name for a user.
    fn check_email(&self, path: &str, wrong: &mut Wrong) {
        let names = &self.claim_mappings.username.expression;
        let has = |text: &str, field: &str| {
            let mut rest = text;
            while let Some(at) = rest.find(field) {
                let after = rest[at + field.len()..].chars().next();
                if !after.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    return true;
                }
                rest = &rest[at + field.len()..];
            }
            false
        };
        let verified = |text: &str| has(text, "email_verified");
        let extra = self.claim_mappings.extra.iter().any(|extra| verified(&extra.value_expression));
        let rules = self.claim_validation_rules.iter().any(|rule| verified(&rule.expression));
        if (has(names, "claims.email") || has(names, "claims.?email")) && !(verified(names) || extra || rules) {
            let path = format!("{path}.claimMappings.username.expression");
            wrong.invalid(
                path,
                names,
                "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            );
        }
    }
}

impl Issuer {
    fn check(&self, path: &str, own: &[String], wrong: &mut Wrong) {
        let Self { url, discovery_url, audiences, audience_match_policy: policy, .. } = self;
        if url.is_empty() {
            wrong.say(format!("{path}.url"), "Required value");
        } else {
            if own.contains(url) {
                let own = own.join(" ");
                wrong.invalid(
                    format!("{path}.url"),
                    url,
                    format!("URL must not overlap with disallowed issuers: [{own}]"),
                );
            }
            check_url(url, &format!("{path}.url"), wrong);
        }
        if !discovery_url.is_empty() {
            let path = format!("{path}.discoveryURL");
            if url.trim_end_matches('/') == discovery_url.trim_end_matches('/') {
                wrong.invalid(&path, discovery_url, "discoveryURL must be different from URL");
            }
            check_url(discovery_url, &path, wrong);
        }
        if audiences.is_empty() {
            wrong
                .say(format!("{path}.audiences"), format!("Required value: at least one {path}.audiences is required"));
        }
        for (at, audience) in audiences.iter().enumerate() {
            let path = format!("{path}.audiences[{at}]");
            if audience.is_empty() {
                wrong.say(&path, "Required value");
            } else if audiences[..at].contains(audience) {
                wrong.say(&path, format!("Duplicate value: {audience:?}"));
            }
        }
        let fits = policy == "MatchAny" || (policy.is_empty() && audiences.len() < 2);
        if !fits {
            let why = if audiences.len() > 1 {
                "audienceMatchPolicy must be MatchAny for multiple audiences"
            } else {
                "audienceMatchPolicy must be empty or MatchAny for single audience"
            };
            wrong.invalid(format!("{path}.audienceMatchPolicy"), policy, why);
        }
        let authority = &self.certificate_authority;
        let certificates = || CertificateDer::pem_slice_iter(authority.as_bytes()).collect::<Result<Vec<_>, _>>();
        if !authority.is_empty() && !certificates().is_ok_and(|all| !all.is_empty()) {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            wrong.invalid(format!("{path}.certificateAuthority"), "<omitted>", why);
        }
        if !self.egress_selector_type.is_empty() {
            let why = "egress selectors are not supported";
            wrong.invalid(format!("{path}.egressSelectorType"), &self.egress_selector_type, why);
        }
    }
}

fn check_url(url: &str, path: &str, wrong: &mut Wrong) {
    let rest = match url.split_once("://") {
        Some(("https", rest)) => rest,
        Some((_, rest)) => {
            wrong.invalid(path, url, "URL scheme must be https");
            rest
        }
        None => return wrong.invalid(path, url, "URL scheme must be https"),
    };
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        wrong.invalid(path, url, "URL must not contain a username or password");
    }
    if rest.contains('?') {
        wrong.invalid(path, url, "URL must not contain a query");
    }
    if rest.contains('#') {
        wrong.invalid(path, url, "URL must not contain a fragment");
    }
}

impl ClaimRule {
    fn check(&self, path: &str, wrong: &mut Wrong) {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") => wrong.say(path, "Required value: claim or expression is required"),
            ("", text) => {
                if !self.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    wrong.invalid(format!("{path}.requiredValue"), &self.required_value, why);
                }
                wrong.expression(format!("{path}.expression"), text, Of::ClaimRule);
            }
            (claim, "") if !self.message.is_empty() => {
                let _claim = claim;
                wrong.invalid(format!("{path}.message"), &self.message, "may not be specified when claim is set");
            }
            (_, "") => {}
            (claim, _) => wrong.invalid(path, claim, "claim and expression can't both be set"),
        }
    }
}

impl Mappings {
    fn check(&self, path: &str, wrong: &mut Wrong) {
        self.username.check(&format!("{path}.username"), true, wrong);
        self.groups.check(&format!("{path}.groups"), false, wrong);
        match (self.uid.claim.as_str(), self.uid.expression.as_str()) {
            (_, "") => {}
            ("", text) => wrong.expression(format!("{path}.uid.expression"), text, Of::Text),
            _ => wrong.invalid(format!("{path}.uid"), "", "claim and expression can't both be set"),
        }
        for (at, extra) in self.extra.iter().enumerate() {
            extra.check(&format!("{path}.extra[{at}]"), wrong);
            if self.extra[..at].iter().any(|before| before.key == extra.key) {
                wrong.say(format!("{path}.extra[{at}].key"), format!("Duplicate value: {:?}", extra.key));
            }
        }
    }
}

impl Prefixed {
    fn check(&self, path: &str, required: bool, wrong: &mut Wrong) {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") if required => wrong.say(path, "Required value: claim or expression is required"),
            ("", "") => {}
            ("", text) => {
                if let Some(prefix) = &self.prefix {
                    let why = "may not be specified when expression is set";
                    wrong.invalid(format!("{path}.prefix"), prefix, why);
                }
                wrong.expression(format!("{path}.expression"), text, if required { Of::Text } else { Of::Texts });
            }
            (_, "") if self.prefix.is_none() => {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                wrong.say(format!("{path}.prefix"), format!("Required value: {why}"));
            }
            (_, "") => {}
            _ => wrong.invalid(path, "", "claim and expression can't both be set"),
        }
    }
}

impl Extra {
    fn check(&self, path: &str, wrong: &mut Wrong) {
        let key = &self.key;
        let (domain, rest) = key.split_once('/').unwrap_or((key, ""));
        let at = format!("{path}.key");
        if key.is_empty() {
            wrong.say(&at, "Required value");
        } else if rest.is_empty() || !names::is_dns1123_subdomain(domain).is_empty() {
            wrong.invalid(&at, key, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        }
        if key.to_lowercase() != *key {
            wrong.invalid(&at, key, "must be lowercase");
        }
        let reserved = ["k8s.io", "kubernetes.io"]
            .into_iter()
            .any(|own| domain == own || domain.strip_suffix(own).is_some_and(|above| above.ends_with('.')));
        if reserved && !rest.is_empty() {
            wrong.invalid(&at, key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
        }
        match self.value_expression.as_str() {
            "" => wrong.say(format!("{path}.valueExpression"), "Required value"),
            text => wrong.expression(format!("{path}.valueExpression"), text, Of::Texts),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn read(jwt: Value) -> Result<AuthenticationConfiguration, String> {
        let file =
            json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt]});
        AuthenticationConfiguration::read(file, &["https://own".to_owned()])
    }

    fn fits() -> Value {
        json!({
            "issuer": {"url": "https://issuer.example.com", "audiences": ["kedge"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        })
    }

    #[test]
    fn what_fits_is_read() {
        let mut jwt = fits();
        jwt["claimMappings"]["groups"] = json!({"expression": "claims.roles.split(',')"});
        jwt["claimMappings"]["extra"] = json!([{"key": "example.com/tenant", "valueExpression": "claims.tenant"}]);
        jwt["claimValidationRules"] = json!([{"expression": "claims.hd == 'example.com'", "message": "other domain"}]);
        jwt["userValidationRules"] = json!([{"expression": "!user.username.startsWith('system:')"}]);
        assert_eq!(read(jwt).unwrap().jwt.len(), 1);
        let none = json!({"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthenticationConfiguration",
            "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]}});
        assert!(AuthenticationConfiguration::read(none, &[]).unwrap().anonymous.unwrap().enabled);
    }

    #[test]
    fn what_does_not_is_named_by_its_path() {
        for (pointer, value, wanted) in [
            ("/issuer/url", json!(""), "jwt[0].issuer.url: Required value"),
            (
                "/issuer/url",
                json!("http://a"),
                "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
            ),
            ("/issuer/url", json!("https://own"), "URL must not overlap with disallowed issuers: [https://own]"),
            ("/issuer/url", json!("https://a@b/?c#d"), "must not contain a fragment"),
            ("/issuer/audiences", json!([]), "jwt[0].issuer.audiences: Required value"),
            ("/issuer/audiences", json!(["a", "b"]), "audienceMatchPolicy must be MatchAny for multiple audiences"),
            (
                "/claimMappings/username",
                json!({}),
                "jwt[0].claimMappings.username: Required value: claim or expression is required",
            ),
            (
                "/claimMappings/username",
                json!({"claim": "sub"}),
                "jwt[0].claimMappings.username.prefix: Required value: prefix is required",
            ),
            ("/claimMappings/username", json!({"expression": "claims.email"}), "claims.email_verified must be used"),
            ("/claimMappings/username", json!({"expression": "1"}), "must evaluate to string"),
            ("/claimMappings/username", json!({"expression": "nonsense +"}), "compilation failed"),
        ] {
            let mut jwt = fits();
            *jwt.pointer_mut(pointer).unwrap() = value;
            let why = read(jwt).unwrap_err();
            assert!(why.contains(wanted), "{pointer}: {why}");
        }
        let mut jwt = fits();
        jwt["claimMappings"]["extra"] = json!([{"key": "k8s.io/A", "valueExpression": "''"}]);
        let why = read(jwt).unwrap_err();
        assert!(why.contains("must be lowercase") && why.contains("reserved for Kubernetes use"), "{why}");
        let mut jwt = fits();
        jwt["issuer"]["unknown"] = 1.into();
        assert!(read(jwt).unwrap_err().contains("unknown field"));
        let verified = json!({"expression": "claims.email_verified ? claims.email : ''"});
        let mut jwt = fits();
        jwt["claimMappings"]["username"] = verified;
        read(jwt).unwrap();
    }
}
