//! Reviews: questions about users and what they may do. They are answered, not stored.

use std::sync::Arc;

use http::{Response, StatusCode};
use kedge_auth::Decision;
use kedge_meta::{Status, UserInfo};
use kedge_registry::printers;
use kedge_registry::value::ValueExt as _;
use kedge_schema::ResourceInfo;
use serde_json::{Map, Value, json};

use crate::admit;
use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::posted;
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
        return Err(Status::method_not_supported(&group_resource(&admitted), &admitted.info.verb));
    }
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let info = &admitted.info;
    let body = posted(admitted.request.headers(), &bytes, info, (&info.group, &info.version, &resource.kind))?;
    let dry_run = WriteOptions::of(info)?.dry_run;
    let mut review = body.object;
    let manager = field_manager(info, admitted.request.headers());
    kedge_registry::verbs::answered(&resource.own_kind(), "", &mut review, &manager, server.clock.now());
    let mut review = admit::create(server, &admitted, resource, review, dry_run).await?;
    let user = &admitted.user;
    let status = match admitted.info.resource.as_str() {
        "selfsubjectreviews" => json!({ "userInfo": user_json(user) }),
        "tokenreviews" => token_review(server, &review)?,
        "selfsubjectrulesreviews" => rules_review(server, user, &review),
        "selfsubjectaccessreviews" => access_review(server, user, &review)?,
        "localsubjectaccessreviews" => {
            let namespace = review.text(&["spec", "resourceAttributes", "namespace"]);
            if namespace != admitted.info.namespace {
                return Err(Status::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {}",
                    admitted.info.namespace
                )));
            }
            access_review(server, &reviewed_user(&review)?, &review)?
        }
        "subjectaccessreviews" => access_review(server, &reviewed_user(&review)?, &review)?,
        _ => return Err(Status::unknown_path()),
    };
    if review.get("metadata").is_none() {
        review.set("metadata", json!({ "creationTimestamp": null }));
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

fn reviewed_user(review: &Value) -> Result<UserInfo, Status> {
    let name = review.text(&["spec", "user"]).to_owned();
    let groups =
        review.list(&["spec", "groups"]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    if name.is_empty() && groups.is_empty() {
        return Err(Status::bad_request("spec: at least one of user or group must be specified"));
    }
    Ok(UserInfo { name, groups, ..UserInfo::default() })
}

fn access_review(server: &ApiServer, user: &UserInfo, review: &Value) -> Result<Value, Status> {
    let resource = review.at(&["spec", "resourceAttributes"]).filter(|v| !v.is_null());
    let path = review.at(&["spec", "nonResourceAttributes"]).filter(|v| !v.is_null());
    let request = match (resource, path) {
        (Some(r), None) => kedge_auth::Request {
            user: Some(user),
            verb: r.text(&["verb"]),
            group: r.text(&["group"]),
            version: r.text(&["version"]),
            resource: r.text(&["resource"]),
            subresource: r.text(&["subresource"]),
            namespace: r.text(&["namespace"]),
            name: r.text(&["name"]),
            path: "",
            is_resource: true,
        },
        (None, Some(p)) => kedge_auth::Request {
            user: Some(user),
            verb: p.text(&["verb"]),
            path: p.text(&["path"]),
            ..Default::default()
        },
        _ => {
            let message = "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Status::bad_request(message));
        }
    };
    Ok(match server.authorizer.authorize(&request) {
        Decision::Allow(reason) if reason.is_empty() => json!({ "allowed": true }),
        Decision::Allow(reason) => json!({ "allowed": true, "reason": reason }),
        Decision::Deny(reason) => json!({ "allowed": false, "denied": true, "reason": reason }),
        Decision::NoOpinion(reason) if reason.is_empty() => json!({ "allowed": false }),
        Decision::NoOpinion(reason) => json!({ "allowed": false, "reason": reason }),
    })
}

fn rules_review(server: &ApiServer, user: &UserInfo, review: &Value) -> Value {
    let namespace = review.text(&["spec", "namespace"]);
    let mut rules = server.rbac.rules_for(user, namespace);
    if user.in_group(kedge_auth::MASTERS) {
        let all = || vec!["*".to_owned()];
        let everything = kedge_auth::PolicyRule { verbs: all(), ..Default::default() };
        rules.push(kedge_auth::PolicyRule { api_groups: all(), resources: all(), ..everything.clone() });
        rules.push(kedge_auth::PolicyRule { non_resource_urls: all(), ..everything });
    }
    let (paths, resources): (Vec<_>, Vec<_>) = rules.into_iter().partition(|r| !r.non_resource_urls.is_empty());
    json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": false })
}

fn token_review(server: &ApiServer, review: &Value) -> Result<Value, Status> {
    let token = review.text(&["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        review.list(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match server.authenticator.tokens().authenticate(token, &audiences, server.now()) {
        // Those of the audiences asked for that the token is for; the others must not take it.
        Ok(found) => {
            json!({ "authenticated": true, "user": user_json(&found.user), "audiences": found.audiences })
        }
        Err(err) => json!({ "user": {}, "error": format!("[invalid bearer token, {err}]") }),
    })
}

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
        "get" => Err(Status::not_found(&group_resource(admitted), &info.name)),
        verb => Err(Status::method_not_supported(&group_resource(admitted), verb)),
    }?;
    respond::warn(&mut response, &["v1 ComponentStatus is deprecated in v1.19+".to_owned()]);
    Ok(response)
}
