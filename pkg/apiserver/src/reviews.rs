//! Reviews: questions about users and what they may do. They are answered, not stored.

use std::sync::Arc;

use http::{Response, StatusCode};
use kedge_auth::{Decision, Refused, Remarks, Rules, TokenError};
use kedge_base::time;
use kedge_meta::{GroupKind, GroupResource, Status, UserInfo, fields, labels};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{access_reviews, printers};
use kedge_schema::ResourceInfo;
use serde_json::{Map, Value, json};

use crate::admit;
use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::{check_namespace, posted};
use crate::input::negotiate::{self, Accepted, Offer};
use crate::input::options::{WriteOptions, field_manager};
use crate::objects::group_resource;
use crate::output::respond;
use crate::output::table::ListMeta;
use crate::output::{list, object};
use crate::server::ApiServer;

/// Answers requests on what is not stored: reviews, and the state of components.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    resource: &ResourceInfo,
) -> Result<Response<Body>, Status> {
    if resource.group.is_empty() {
        let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(resource))?;
        return component_statuses(server, &admitted, resource, accepted);
    }
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    if admitted.info.verb != "create" {
        return Err(Status::method_not_allowed());
    }
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let info = &admitted.info;
    let body = posted(admitted.request.headers(), &bytes, info, (&info.group, &info.version, &resource.kind))?;
    let dry_run = WriteOptions::of(info)?.dry_run;
    let mut review = body.object;
    if resource.namespaced {
        check_namespace(&mut review, &info.namespace)?;
    } else if let Some(metadata) = review.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("namespace");
    }
    let manager = field_manager(info, admitted.request.headers());
    kedge_registry::verbs::answered(&resource.own_kind(), "", &mut review, &manager, server.clock.now());
    let mut review = admit::create(server, &admitted, resource, review, dry_run).await?;
    let user = &admitted.user;
    let status = match admitted.info.resource.as_str() {
        "selfsubjectreviews" => json!({ "userInfo": user_json(user) }),
        "tokenreviews" => token_review(server, &review).await?,
        "selfsubjectrulesreviews" if review.text(&["spec", "namespace"]).is_empty() => {
            return Err(Status::bad_request("no namespace on request"));
        }
        "selfsubjectrulesreviews" => rules_review(server, user, &review),
        "selfsubjectaccessreviews" => access_review(server, user, &review).await?,
        "localsubjectaccessreviews" | "subjectaccessreviews" => {
            access_review(server, &reviewed_user(&review), &review).await?
        }
        _ => return Err(Status::unknown_path()),
    };
    if admitted.info.resource == "selfsubjectreviews" {
        // The answer is made anew.
        review.set("metadata", json!({ "creationTimestamp": time::rfc3339(server.clock.now()) }));
    }
    review.set("status", status);
    let mut response = respond::value(StatusCode::CREATED, &review, accepted.format)?;
    respond::warn(&mut response, &body.warnings);
    Ok(response)
}

fn user_json(user: &UserInfo) -> Value {
    let mut out = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        out.set("uid", user.uid.clone());
    }
    if !user.extra.is_empty() {
        let extra: Map<String, Value> = user.extra.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        out.set("extra", extra);
    }
    out
}

/// Whom a question is about.
fn reviewed_user(review: &Value) -> UserInfo {
    let texts = |value: &[Value]| value.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<String>>();
    let extra = review.at(&["spec", "extra"]).and_then(Value::as_object);
    let extra = extra.into_iter().flatten().map(|(key, values)| {
        // Keys of extra information have no case.
        (key.to_lowercase(), texts(values.as_array().map(Vec::as_slice).unwrap_or_default()))
    });
    UserInfo {
        name: review.text(&["spec", "user"]).to_owned(),
        uid: review.text(&["spec", "uid"]).to_owned(),
        groups: texts(review.list(&["spec", "groups"])),
        extra: extra.collect(),
    }
}

async fn access_review(server: &ApiServer, user: &UserInfo, review: &Value) -> Result<Value, Status> {
    let kind = review.text(&["kind"]);
    let errors = access_reviews::validate(kind, review);
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new("authorization.k8s.io", ""), "", &errors));
    }
    let (fields, labels) = (reviewed_fields(review), reviewed_labels(review));
    let request = match review.at(&["spec", "resourceAttributes"]).filter(|v| !v.is_null()) {
        Some(r) => kedge_auth::Request {
            user: Some(user),
            verb: r.text(&["verb"]),
            group: r.text(&["group"]),
            version: r.text(&["version"]),
            resource: r.text(&["resource"]),
            subresource: r.text(&["subresource"]),
            namespace: r.text(&["namespace"]),
            name: r.text(&["name"]),
            fields: fields.as_ref(),
            labels: labels.as_ref(),
            path: "",
            is_resource: true,
        },
        None => kedge_auth::Request {
            user: Some(user),
            verb: review.text(&["spec", "nonResourceAttributes", "verb"]),
            path: review.text(&["spec", "nonResourceAttributes", "path"]),
            ..Default::default()
        },
    };
    let decision = server.authorizer.authorize(&request).await;
    let (allowed, mut wrong) = (decision.is_allowed(), Vec::new());
    let denied = match &decision {
        Decision::Deny(_) => true,
        Decision::Failed { denied, error, .. } => {
            wrong.push(error.clone());
            *denied
        }
        Decision::Allow(_) | Decision::NoOpinion(_) => false,
    };
    let reason = decision.into_reason();
    let mut status = json!({ "allowed": allowed });
    if denied {
        status.set("denied", true);
    }
    if !reason.is_empty() {
        status.set("reason", reason);
    }
    wrong.extend(ignored_selectors(review));
    if !wrong.is_empty() {
        status.set("evaluationError", wrong.join("; "));
    }
    Ok(status)
}

/// The field selector of the question, as far as it can be understood; what is left out restricts less.
fn reviewed_fields(review: &Value) -> Option<fields::Selector> {
    let at = review.at(&["spec", "resourceAttributes", "fieldSelector"])?;
    let mut selector = fields::Selector::parse(at.text(&["rawSelector"])).unwrap_or_default();
    for requirement in at.list(&["requirements"]) {
        let (operator, [value]) = (requirement.text(&["operator"]), requirement.list(&["values"])) else { continue };
        let (field, value) = (requirement.text(&["key"]).to_owned(), value.as_str().unwrap_or_default().to_owned());
        if matches!(operator, "In" | "NotIn") {
            selector.requirements.push(fields::Requirement { field, value, equal: operator == "In" });
        }
    }
    Some(selector)
}

/// The label selector of the question, likewise.
fn reviewed_labels(review: &Value) -> Option<labels::Selector> {
    let at = review.at(&["spec", "resourceAttributes", "labelSelector"])?;
    let mut requirements =
        labels::Selector::parse(at.text(&["rawSelector"])).unwrap_or_default().requirements().to_vec();
    for requirement in at.list(&["requirements"]) {
        let operator = match requirement.text(&["operator"]) {
            "In" => labels::Operator::In,
            "NotIn" => labels::Operator::NotIn,
            "Exists" => labels::Operator::Exists,
            "DoesNotExist" => labels::Operator::DoesNotExist,
            _ => continue,
        };
        let values = requirement.list(&["values"]).iter().filter_map(Value::as_str).map(str::to_owned);
        requirements.extend(labels::Requirement::new(requirement.text(&["key"]), operator, values));
    }
    Some(labels::Selector::from_requirements(requirements))
}

/// Selectors of the question that cannot be understood, in words.
fn ignored_selectors(review: &Value) -> Vec<String> {
    let one = |name: &str, parses: fn(&str) -> bool, understood: fn(&Value) -> bool| {
        let at = review.at(&["spec", "resourceAttributes", name])?;
        let requirements = at.list(&["requirements"]);
        let known = requirements.iter().filter(|requirement| understood(requirement)).count();
        if known == requirements.len() && parses(at.text(&["rawSelector"])) {
            return None;
        }
        let part = if known > 0 { "partially " } else { "" };
        Some(format!("spec.resourceAttributes.{name} {part}ignored due to parse error"))
    };
    let fields = one(
        "fieldSelector",
        |raw| fields::Selector::parse(raw).is_ok(),
        |requirement| {
            matches!(requirement.text(&["operator"]), "In" | "NotIn") && requirement.list(&["values"]).len() == 1
        },
    );
    let labels = one(
        "labelSelector",
        |raw| labels::Selector::parse(raw).is_ok(),
        |requirement| matches!(requirement.text(&["operator"]), "In" | "NotIn" | "Exists" | "DoesNotExist"),
    );
    fields.into_iter().chain(labels).collect()
}

fn rules_review(server: &ApiServer, user: &UserInfo, review: &Value) -> Value {
    let namespace = review.text(&["spec", "namespace"]);
    let Rules { mut rules, incomplete, errors } = server.authorizer.rules_of(user, namespace);
    if user.in_group(kedge_auth::MASTERS) {
        let all = || vec!["*".to_owned()];
        let everything = kedge_auth::PolicyRule { verbs: all(), ..Default::default() };
        rules.push(kedge_auth::PolicyRule { api_groups: all(), resources: all(), ..everything.clone() });
        rules.push(kedge_auth::PolicyRule { non_resource_urls: all(), ..everything });
    }
    let (paths, resources): (Vec<_>, Vec<_>) = rules.into_iter().partition(|r| !r.non_resource_urls.is_empty());
    let mut status = json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete });
    match errors.as_slice() {
        [] => {}
        [one] => status.set("evaluationError", one.as_str()),
        all => status.set("evaluationError", format!("[{}]", all.join(", "))),
    }
    status
}

async fn token_review(server: &ApiServer, review: &Value) -> Result<Value, Status> {
    let token = review.text(&["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        review.list(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    // Who reviews is not whom a warning is for.
    let remarks = Remarks::default();
    let judged = || server.authenticator.token(token, &audiences, server.now(), &remarks);
    let news = async { server.registry.fresh().await.map_err(store_failure) };
    let found = judged_with_news(judged, news).await?;
    let said = remarks.take();
    server.access.shown(&said.tokens);
    server.note_use(said.used).await;
    Ok(match found {
        // Those of the audiences asked for that the token is for; the others must not take it.
        Ok(found) => {
            json!({ "authenticated": true, "user": user_json(&found.user), "audiences": found.audiences })
        }
        Err(refused) => json!({ "user": {}, "error": refused.to_string() }),
    })
}

/// What is found of a token. What it is bound to may have come about at another server a moment ago, so that who does not find it
/// looks once more when the news are there.
async fn judged_with_news<T, F: Future<Output = Result<T, Refused>>>(
    judged: impl Fn() -> F,
    news: impl Future<Output = Result<(), Status>>,
) -> Result<Result<T, Refused>, Status> {
    match judged().await {
        Err(Refused { own: TokenError::Unbound(_), .. }) => {
            news.await?;
            Ok(judged().await)
        }
        found => Ok(found),
    }
}

const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// All parts of the control plane are this process, which answers: they are healthy.
fn component_statuses(
    server: &ApiServer,
    admitted: &Admitted,
    resource: &ResourceInfo,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let printer = printers::of(&resource.group, &resource.plural);
    let status = |name: &str| {
        json!({"kind": resource.kind, "apiVersion": "v1", "metadata": {"name": name},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
    };
    let names = ["controller-manager", "etcd-0", "scheduler"];
    let mut response = match info.verb.as_str() {
        "list" => {
            let items = names.into_iter().map(status).collect();
            list::shaped(server, info, (resource, &printer), items, &ListMeta::default(), accepted)
        }
        "get" if names.contains(&info.name.as_str()) => {
            object::shaped(server, info, &printer, &status(&info.name), StatusCode::OK, accepted)
        }
        "get" => {
            let warning = DEPRECATED.to_owned();
            admitted.notes.warn(warning);
            Err(Status::not_found(&GroupResource::new("", &resource.singular), &info.name))
        }
        verb => Err(Status::method_not_supported(&group_resource(admitted), verb)),
    }?;
    respond::warn(&mut response, &[DEPRECATED.to_owned()]);
    Ok(response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    /// Of several servers one once refused the tokens of pods that another had just made.
    #[tokio::test]
    async fn a_token_of_what_another_server_made_is_known_with_the_news() {
        let there = Cell::new(false);
        let refused = |own| Refused { own, others: Vec::new() };
        let judged = || {
            let there = there.get();
            async move { if there { Ok("jane") } else { Err(refused(TokenError::Unbound("pod".into()))) } }
        };
        let arriving = async {
            there.set(true);
            Ok(())
        };
        assert_eq!(judged_with_news(judged, arriving).await.unwrap(), Ok("jane"));
        let gone: Result<(), _> = Err(refused(TokenError::Unbound("pod".into())));
        assert_eq!(
            judged_with_news(|| std::future::ready(gone.clone()), async { Ok(()) }).await.unwrap(),
            gone,
            "gone is gone"
        );
        let failing = async { Err(Status::internal("no store")) };
        assert_eq!(judged_with_news(|| std::future::ready(gone.clone()), failing).await.unwrap_err().code, 500);
        let none = async { unreachable!("nothing that comes makes it valid") };
        assert_eq!(
            judged_with_news(|| std::future::ready(Err::<(), _>(refused(TokenError::Expired))), none).await.unwrap(),
            Err(refused(TokenError::Expired))
        );
    }
}
