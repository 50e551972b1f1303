//! Layer 3: who makes a request, and whether that is allowed. One method a file.
//!
//! Invariants: nothing is allowed unless a rule allows it; a credential that is there but wrong is an error, never an
//! anonymous request; an authorizer that cannot decide has no opinion.

mod authenticator;
mod authorizer;
mod bearer;
mod bootstrap_tokens;
mod front_proxy;
mod jws;
pub mod jwt;
mod keys;
mod legacy_tokens;
mod newest;
mod node;
mod rbac;
mod remarks;
mod rules;
mod shown;
mod static_tokens;
mod tokens;
mod x509;

pub use authenticator::{Authenticator, Credentials, Refused, TokenAuthenticator, Unauthenticated, authenticated};
pub use authorizer::{Authorizer, Deciding, Decision, Request, Union};
pub use bearer::BearerTokens;
pub use bootstrap_tokens::BootstrapTokens;
pub use front_proxy::FrontProxy;
pub use keys::{PublicKey, SigningKey};
pub use legacy_tokens::{LEGACY_ISSUER, LegacyTokens};
pub use node::{NodeAuthorizer, NodeRelations};
pub use rbac::{PolicyRule, RbacAuthorizer};
pub use remarks::{Remarks, Said, UsedSecret};
pub use rules::{described, quoted, uncovered};
pub use shown::Shown;
pub use static_tokens::StaticTokens;
pub use tokens::{Authenticated, Bindings, BoundObject, BoundStores, Claims, TokenError, TokenSigner};
pub use x509::{AnyClientCertificate, CertificateAuthenticator};

/// The group of those who may do everything.
pub const MASTERS: &str = "system:masters";
