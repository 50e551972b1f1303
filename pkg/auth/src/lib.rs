//! Layer 3: who makes a request, and whether that is allowed. One method a file.
//!
//! Invariants: nothing is allowed unless a rule allows it; a credential that is there but wrong is an error, never an
//! anonymous request; an authorizer that cannot decide has no opinion.

mod authenticator;
mod authorization;
mod authorizer;
mod authorizers;
mod bearer;
mod bootstrap_tokens;
mod expiring;
mod front_proxy;
mod jws;
pub mod jwt;
mod keys;
mod legacy_tokens;
mod newest;
mod node;
mod rbac;
mod reloads;
mod remarks;
mod rules;
mod shown;
mod static_tokens;
mod tokens;
mod webhook;
mod x509;

pub use authenticator::{Authenticator, Credentials, Refused, TokenAuthenticator, Unauthenticated, authenticated};
pub use authorization::{
    AuthorizationConfiguration, AuthorizerConfiguration, ConnectionInfo, MatchCondition, Nanos, WebhookConfiguration,
};
pub use authorizer::{Authorizer, Deciding, Decision, Request, Rules, Union};
pub use authorizers::{Authorizers, Ground};
pub use bearer::BearerTokens;
pub use bootstrap_tokens::BootstrapTokens;
pub use expiring::Expiring;
pub use front_proxy::FrontProxy;
pub use keys::{PublicKey, SigningKey};
pub use legacy_tokens::{LEGACY_ISSUER, LegacyTokens};
pub use node::{NodeAuthorizer, NodeRelations};
pub use rbac::{PolicyRule, RbacAuthorizer};
pub use reloads::Reloads;
pub use remarks::{Remarks, Said, ShownToken, UsedSecret};
pub use rules::{described, quoted, uncovered};
pub use shown::Shown;
pub use static_tokens::StaticTokens;
pub use tokens::{Authenticated, Bindings, BoundObject, BoundStores, Claims, TokenError, TokenSigner};
pub use webhook::{AuthorizationMeters, Connect, Remote, Reviewer, Version, WebhookTokens};
pub use x509::{AnyClientCertificate, CertificateAuthenticator};

/// The group of those who may do everything.
pub const MASTERS: &str = "system:masters";

/// Errors as one text, each of them once, as upstream puts them together; none if there is none.
fn together(errors: &[String]) -> Option<String> {
    let mut all: Vec<&str> = Vec::new();
    for error in errors {
        if !all.contains(&error.as_str()) {
            all.push(error);
        }
    }
    match all.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        all => Some(format!("[{}]", all.join(", "))),
    }
}
