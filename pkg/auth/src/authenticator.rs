//! From a request's credentials to a user.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_base::exposition::Exposition;
use kedge_meta::UserInfo;

use crate::bearer::BearerTokens;
use crate::front_proxy::FrontProxy;
use crate::reloads::Reloads;
use crate::remarks::Remarks;
use crate::shown::Shown;
use crate::tokens::{Authenticated, TokenError, TokenSigner};
use crate::webhook::WebhookTokens;
use crate::x509::CertificateAuthenticator;

const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// What a request brings along.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// What the client showed when it connected; no certificates, if it showed none.
    pub certificates: &'a Shown,
    /// What follows `Bearer ` in the Authorization header.
    pub bearer: Option<&'a str>,
    /// Who asks, as whoever shows the certificate says.
    pub claimed: Option<&'a UserInfo>,
    /// Where what is to be said of them is gathered.
    pub remarks: &'a Remarks,
}

/// Credentials that are wrong, or missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    #[error("the client certificate is not valid: {0}")]
    Certificate(String),
    #[error("the token is not valid: {0}")]
    Token(String),
    /// The token is ours, but what it is bound to is not in the caches: it is gone, or has come about at another server a
    /// moment ago.
    #[error("the token is not valid: {0}")]
    Unbound(String),
}

/// The user as a member of `system:authenticated`: but for one who is said to be nobody, or of whom it is said already whether
/// they are, as a server in front of this one may say of who asks there without a name.
pub fn authenticated(mut user: UserInfo) -> UserInfo {
    let said = user.in_group(AUTHENTICATED) || user.in_group(UNAUTHENTICATED);
    if user.name != ANONYMOUS && !said {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// Knows tokens that are not those of service accounts.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync {
    /// The user that a token stands for; none when it is no token that this one knows. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why a token that it knows is not valid.
    async fn authenticate(&self, token: &str, now: i64) -> Result<Option<UserInfo>, String>;
}

/// Tries the methods that fit the credentials.
pub struct Authenticator {
    certificates: CertificateAuthenticator,
    tokens: BearerTokens,
    front: Option<FrontProxy>,
    others: Vec<Arc<dyn TokenAuthenticator>>,
    webhook: Option<WebhookTokens>,
    reloads: Option<Arc<Reloads>>,
}

/// Why a token is refused: what the one who issues service account tokens says, and what others say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub own: TokenError,
    pub others: Vec<String>,
}

// === impl Authenticator ===

impl Authenticator {
    /// From its methods.
    pub fn new(certificates: CertificateAuthenticator, tokens: Arc<TokenSigner>) -> Self {
        Self {
            certificates,
            tokens: BearerTokens::new(tokens),
            front: None,
            others: Vec::new(),
            webhook: None,
            reloads: None,
        }
    }

    /// The same, and who may say who asks.
    #[must_use]
    pub fn with_front_proxy(self, front: FrontProxy) -> Self {
        Self { front: Some(front), ..self }
    }

    /// The same, and who else knows tokens, in the order in which they are asked.
    #[must_use]
    pub fn with_tokens(self, others: Vec<Arc<dyn TokenAuthenticator>>) -> Self {
        Self { others, ..self }
    }

    /// The same, and a webhook that is asked about a token when nobody else takes it.
    #[must_use]
    pub fn with_webhook(self, webhook: Option<WebhookTokens>) -> Self {
        Self { webhook, ..self }
    }

    /// The same, and how often its configuration was read anew.
    #[must_use]
    pub fn with_reloads(self, reloads: Arc<Reloads>) -> Self {
        Self { reloads: Some(reloads), ..self }
    }

    /// Writes out its metrics.
    pub fn show(&self, out: &mut Exposition) {
        if let Some(reloads) = &self.reloads {
            reloads.show(out);
        }
    }

    /// The user; none when there are no credentials at all. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When credentials are there, and none of them is valid.
    pub async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: i64,
    ) -> Result<Option<UserInfo>, Unauthenticated> {
        if let (Some(front), Some(claimed)) = (&self.front, credentials.claimed)
            && front.is_shown(credentials.certificates, now)
        {
            return Ok(Some(authenticated(claimed.clone())));
        }
        let shown = Some(credentials.certificates).filter(|shown| !shown.is_empty());
        let by_certificate = shown.map(|shown| self.certificates.authenticate(shown, now));
        if let Some(Ok(user)) = by_certificate {
            return Ok(Some(user));
        }
        if let Some(token) = credentials.bearer {
            return match self.token(token, &[], now, credentials.remarks).await {
                Ok(found) => Ok(Some(found.user)),
                Err(Refused { own: err @ TokenError::Unbound(_), .. }) => {
                    Err(Unauthenticated::Unbound(err.to_string()))
                }
                Err(refused) => Err(Unauthenticated::Token(refused.to_string())),
            };
        }
        by_certificate.transpose()
    }

    /// The user that a token stands for, for one of these audiences; none of them are ours. Others than the issuer of service account
    /// tokens are asked about what is none of its tokens, and know of no audiences but ours. A webhook comes last, and is asked about
    /// every audience.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        remarks: &Remarks,
    ) -> Result<Authenticated, Refused> {
        let own = match self.tokens.authenticate(token, audiences, now, remarks) {
            Ok(found) => return Ok(found),
            Err(err) => err,
        };
        let (mut others, ours) = (Vec::new(), self.tokens().default_audiences());
        let wanted = if audiences.is_empty() { ours } else { audiences };
        let meant: Vec<String> = ours.iter().filter(|one| wanted.contains(one)).cloned().collect();
        if own == TokenError::Malformed && !meant.is_empty() {
            for other in &self.others {
                match other.authenticate(token, now).await {
                    Ok(Some(user)) => return Ok(Authenticated { user: authenticated(user), audiences: meant }),
                    Ok(None) => {}
                    Err(why) => others.push(why),
                }
            }
        }
        // What is bound to something that is not known here may be known here in a moment.
        let unsettled = matches!(own, TokenError::Unbound(_));
        if let Some(webhook) = self.webhook.as_ref().filter(|_| !unsettled) {
            match webhook.authenticate(token, wanted, ours).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(why) => others.push(why),
            }
        }
        Err(Refused { own, others })
    }

    /// The signer of service account tokens.
    pub fn tokens(&self) -> &Arc<TokenSigner> {
        self.tokens.signer()
    }

    /// Who knows bearer tokens.
    pub fn bearer(&self) -> &BearerTokens {
        &self.tokens
    }
}

impl std::fmt::Display for Refused {
    /// As upstream's authenticators say together: those that do not know the token say nothing of their own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NOBODYS: &str = "invalid bearer token";
        let own = Some(&self.own).filter(|own| **own != TokenError::Malformed).map(ToString::to_string);
        let known: Vec<String> = own.into_iter().chain(self.others.iter().cloned()).collect();
        if known.is_empty() { f.write_str(NOBODYS) } else { write!(f, "[{NOBODYS}, {}]", known.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once whoever asked another server without a name was authenticated here, where that server passed the request on.
    #[test]
    fn nobody_does_not_become_somebody() {
        let user = |name: &str, groups: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            authenticated(UserInfo { name: name.into(), groups, ..UserInfo::default() }).groups
        };
        assert_eq!(user("jane", &["a"]), ["a", AUTHENTICATED]);
        assert_eq!(user("jane", &[AUTHENTICATED, "a"]), [AUTHENTICATED, "a"], "once, and where it was");
        assert_eq!(user(ANONYMOUS, &[UNAUTHENTICATED]), [UNAUTHENTICATED]);
        assert!(user(ANONYMOUS, &[]).is_empty());
        assert_eq!(user("jane", &[UNAUTHENTICATED]), [UNAUTHENTICATED]);
    }
}
