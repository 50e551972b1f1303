//! Impersonation: a request is made in the name of somebody else, by those who may do that.
//!
//! As upstream since v1.36, there are several ways to be allowed to. The older one is the verb `impersonate` on the user and
//! on everything else of the identity, for whatever request. The constrained ones allow it by kind of user, and only for
//! some requests: `impersonate:<mode>` on the identity and `impersonate-on:<mode>:<verb>` on what is asked for.

use std::collections::BTreeMap;

use http::HeaderMap;
use kedge_auth::{Authorizer, Decision, MASTERS, Request};
use kedge_meta::{Status, UserInfo, names};

use crate::authorization::forbidden;
use crate::input::request_info::RequestInfo;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

pub(crate) const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
const NODES: &str = "system:nodes";
const IDENTITY_GROUP: &str = "authentication.k8s.io";
/// What a token says about the node of its pod.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
/// So many groups or extra values at once are first asked about as a whole.
const MANY: usize = 4;
/// More groups, keys or values than anybody has; each costs a decision.
const MAX_PARTS: usize = 256;

/// In whose name a request is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acting {
    pub(crate) user: UserInfo,
    /// The way by which another identity was taken on, if one was.
    pub(crate) by: Option<Mode>,
}

/// Takes on another identity, if the user may; without the headers the user stays who it is.
///
/// # Errors
/// 400 for an identity without a user, 403 for one that may not be taken on.
pub(crate) async fn impersonate(
    authorizer: &dyn Authorizer,
    headers: &HeaderMap,
    info: &RequestInfo,
    user: UserInfo,
) -> Result<Acting, Status> {
    let wanted = wanted(headers);
    let parts = wanted.groups.len() + wanted.extra.values().map(Vec::len).sum::<usize>();
    let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
    if wanted.name.is_empty() {
        return match bare {
            true => Ok(Acting { user, by: None }),
            false => {
                let message = format!("requested {} without impersonating a user name", go_text(&wanted));
                Err(Status::bad_request(message))
            }
        };
    }
    if parts > MAX_PARTS {
        return Err(Status::bad_request(format!(
            "more than {MAX_PARTS} groups and extra values cannot be impersonated"
        )));
    }
    let mut refusal = None;
    for mode in Mode::of(&wanted, &user, bare) {
        match mode.check(authorizer, &wanted, &user, info).await {
            Ok(user) => return Ok(Acting { user, by: Some(mode) }),
            // The narrowest way that could have been is the one to be told about.
            Err(status) => refusal = refusal.or(Some(status)),
        }
    }
    Err(refusal.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// The identity that the headers name.
fn wanted(headers: &HeaderMap) -> UserInfo {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let decoded = percent_encoding::percent_decode_str(key).decode_utf8();
        let key = decoded.map_or_else(|_| key.to_owned(), |key| key.into_owned());
        extra.entry(key).or_default().extend(all(name.as_str()));
    }
    UserInfo { name: first(USER), uid: first(UID), groups: all(GROUP), extra }
}

/// A way to be allowed to impersonate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A service account takes on its own node.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Everybody else.
    UserInfo,
    Legacy,
}

impl Mode {
    /// Those that an identity can be taken on by, the narrowest first.
    fn of(wanted: &UserInfo, user: &UserInfo, bare: bool) -> Vec<Self> {
        let node = node_name(&wanted.name);
        let account = account_name(&wanted.name).is_some();
        let own = user.extra.get(NODE_NAME).filter(|names| names.len() == 1).and_then(|names| names.first());
        let at_home = node.is_some() && account_name(&user.name).is_some() && own.map(String::as_str) == node;
        let modes = [
            (Self::AssociatedNode, bare && at_home),
            (Self::ArbitraryNode, bare && node.is_some()),
            (Self::ServiceAccount, bare && account),
            (Self::UserInfo, node.is_none() && !account),
            (Self::Legacy, true),
        ];
        modes.into_iter().filter(|(_, applies)| *applies).map(|(mode, _)| mode).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    /// The verb that allows it; none of the older way, which allows whatever is asked for.
    pub(crate) fn constraint(self) -> Option<String> {
        (self != Self::Legacy).then(|| format!("impersonate:{}", self.name()))
    }

    async fn check(
        self,
        authorizer: &dyn Authorizer,
        wanted: &UserInfo,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> Result<UserInfo, Status> {
        // Who may take on its own node may do that on whichever node it is.
        let of_any_node = (self == Self::AssociatedNode).then(|| {
            let keys = user.extra.keys().cloned().collect();
            UserInfo { extra: BTreeMap::from([(NODE_KEYS.to_owned(), keys)]), ..user.clone() }
        });
        let user = of_any_node.as_ref().unwrap_or(user);
        let constraint = self.constraint();
        if constraint.is_some() {
            let (name, on) = (info.authorized_name(), format!("impersonate-on:{}:{}", self.name(), info.verb));
            authorize(authorizer, &Request { verb: &on, ..info.authorization(user, &name) }).await?;
        }
        let verb = constraint.unwrap_or_else(|| "impersonate".to_owned());
        Check { mode: self, authorizer, user, verb }.identity(wanted).await
    }
}

/// The questions about the parts of an identity.
struct Check<'a> {
    mode: Mode,
    authorizer: &'a dyn Authorizer,
    user: &'a UserInfo,
    verb: String,
}

impl Check<'_> {
    fn constrained(&self) -> bool {
        self.mode != Mode::Legacy
    }

    async fn identity(&self, wanted: &UserInfo) -> Result<UserInfo, Status> {
        let mut taken = wanted.clone();
        self.name(wanted, &mut taken).await?;
        if !wanted.uid.is_empty() {
            self.ask(Request { group: IDENTITY_GROUP, resource: "uids", name: &wanted.uid, ..self.question() }).await?;
        }
        self.groups(&wanted.groups).await?;
        self.extra(&wanted.extra).await?;
        let has = |group: &str| taken.groups.iter().any(|g| g == group);
        let implied = if taken.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !has(implied) && !has(UNAUTHENTICATED) {
            taken.groups.push(implied.to_owned());
        }
        Ok(taken)
    }

    async fn name(&self, wanted: &UserInfo, taken: &mut UserInfo) -> Result<(), Status> {
        let node = node_name(&wanted.name).filter(|_| self.constrained());
        if let Some(name) = node {
            taken.groups = vec![NODES.to_owned()];
            let name = if self.mode == Mode::AssociatedNode { "*" } else { name };
            return self.ask(Request { resource: "nodes", name, ..self.users() }).await;
        }
        if let Some((namespace, name)) = account_name(&wanted.name) {
            if wanted.groups.is_empty() {
                let own = format!("system:serviceaccounts:{namespace}");
                taken.groups = vec!["system:serviceaccounts".to_owned(), own];
            }
            return self.ask(Request { resource: "serviceaccounts", namespace, name, ..self.users() }).await;
        }
        self.ask(Request { resource: "users", name: &wanted.name, ..self.users() }).await
    }

    async fn groups(&self, groups: &[String]) -> Result<(), Status> {
        let question = Request { resource: "groups", ..self.users() };
        if self.constrained() {
            if groups.iter().any(String::is_empty) {
                return Err(forbidden(&question, self.user, "impersonating the empty string group is not allowed"));
            }
            if groups.iter().any(|group| group == MASTERS) {
                let question = Request { name: MASTERS, ..question };
                return Err(forbidden(&question, self.user, "impersonating the system:masters group is not allowed"));
            }
            if groups.len() >= MANY && self.ask(Request { name: "*", ..question.clone() }).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.ask(Request { name: group, ..question.clone() }).await?;
        }
        Ok(())
    }

    async fn extra(&self, extra: &BTreeMap<String, Vec<String>>) -> Result<(), Status> {
        if extra.is_empty() {
            return Ok(());
        }
        let question = Request { group: IDENTITY_GROUP, resource: "userextras", ..self.question() };
        if self.constrained() {
            if let Some(why) = unfit_extra(extra) {
                return Err(forbidden(&question, self.user, &why));
            }
            let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.ask(Request { subresource: "*", name: "*", ..question.clone() }).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                self.ask(Request { subresource: key, name: value, ..question.clone() }).await?;
            }
        }
        Ok(())
    }

    fn question(&self) -> Request<'_> {
        Request { user: Some(self.user), verb: &self.verb, version: "v1", is_resource: true, ..Request::default() }
    }

    /// Users and groups belong to the core group in the older way.
    fn users(&self) -> Request<'_> {
        Request { group: if self.constrained() { IDENTITY_GROUP } else { "" }, ..self.question() }
    }

    async fn ask(&self, request: Request<'_>) -> Result<(), Status> {
        authorize(self.authorizer, &Request { user: Some(self.user), ..request }).await
    }
}

async fn authorize(authorizer: &dyn Authorizer, request: &Request<'_>) -> Result<(), Status> {
    match authorizer.authorize(request).await {
        Decision::Allow(_) => Ok(()),
        refused => {
            let reason = refused.into_reason();
            let nobody = UserInfo::default();
            Err(forbidden(request, request.user.unwrap_or(&nobody), &reason))
        }
    }
}

/// What is wrong with extra fields that are taken on in a constrained way.
fn unfit_extra(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".into());
        }
        let (domain, path) = key.split_once('/').unwrap_or((key, ""));
        if path.is_empty() || !names::is_dns1123_subdomain(domain).is_empty() {
            return Some(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")"
            ));
        }
        if key.to_lowercase() != *key {
            return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
        }
        if values.iter().any(String::is_empty) {
            return Some("impersonating the empty string value in extra is not allowed".into());
        }
    }
    None
}

/// The node that a user is, by its name.
fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| names::is_dns1123_subdomain(name).is_empty())
}

/// Namespace and name of the service account that a user is, by its name.
fn account_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let fits = names::is_dns1123_label(namespace).is_empty() && names::is_dns1123_subdomain(name).is_empty();
    fits.then_some((namespace, name))
}

/// The identity as Go prints its value.
fn go_text(user: &UserInfo) -> String {
    let list = |values: &[String]| match values {
        [] => "[]string(nil)".to_owned(),
        values => {
            let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        }
    };
    let bare = |values: &[String]| list(values).replacen("[]string", "", 1);
    let entries: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key:?}:[]string{}", bare(values))).collect();
    let extra = if entries.is_empty() { "(nil)".to_owned() } else { format!("{{{}}}", entries.join(", ")) };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{}, Extra:map[string][]string{extra}}}",
        user.name,
        user.uid,
        list(&user.groups)
    )
}

#[cfg(test)]
#[path = "impersonation_tests.rs"]
mod tests;
