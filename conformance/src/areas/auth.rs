//! Service accounts and what they may do.

use anyhow::ensure;
use kedge_meta::Resource;
use kedge_meta::resources::{CONFIG_MAPS, SERVICE_ACCOUNTS, SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS};
use kedge_meta::resources::{ROLE_BINDINGS, ROLES};
use serde_json::{Value, json};

use super::Test;
use crate::context::TestContext;

pub fn tests() -> Vec<Test> {
    vec![
        Test { name: "auth: a namespace has an account and the cluster's certificate", run: |c| Box::pin(account(c)) },
        Test { name: "auth: a token stands for its account", run: |c| Box::pin(token(c)) },
        Test { name: "auth: a role allows what it says and nothing else", run: |c| Box::pin(role(c)) },
    ]
}

async fn appears(c: &TestContext, resource: &'static Resource, name: &'static str) -> anyhow::Result<()> {
    c.eventually(name, || async {
        match c.client.get::<Value>(resource, &c.namespace, name).await {
            Ok(_) => Ok(Some(())),
            Err(err) if err.is_not_found() => Ok(None),
            Err(err) => Err(err.into()),
        }
    })
    .await
}

async fn account(c: TestContext) -> anyhow::Result<()> {
    appears(&c, &SERVICE_ACCOUNTS, "default").await?;
    appears(&c, &CONFIG_MAPS, "kube-root-ca.crt").await
}

async fn token(c: TestContext) -> anyhow::Result<()> {
    appears(&c, &SERVICE_ACCOUNTS, "default").await?;
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 600 } });
    let made: Value =
        c.client.create_subresource(&SERVICE_ACCOUNTS, &c.namespace, "default", "token", &request).await?;
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": made["status"]["token"] },
    });
    let review: Value = c.client.create(&TOKEN_REVIEWS, "", &review).await?;
    let wanted = format!("system:serviceaccount:{}:default", c.namespace);
    ensure!(review["status"]["user"]["username"] == wanted.as_str(), "{review}");
    Ok(())
}

async fn role(c: TestContext) -> anyhow::Result<()> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "reader" },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"] }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "somebody" }],
    });
    let _: Value = c.client.create(&ROLES, &c.namespace, &role).await?;
    let _: Value = c.client.create(&ROLE_BINDINGS, &c.namespace, &binding).await?;
    for (verb, namespace, allowed) in
        [("get", c.namespace.as_str(), true), ("delete", &c.namespace, false), ("get", "default", false)]
    {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": { "user": "somebody", "resourceAttributes": {
                "namespace": namespace, "verb": verb, "group": "", "resource": "configmaps",
            } },
        });
        c.eventually("the answer of the review", || async {
            let review: Value = c.client.create(&SUBJECT_ACCESS_REVIEWS, "", &review).await?;
            Ok((review["status"]["allowed"] == allowed).then_some(()))
        })
        .await?;
    }
    Ok(())
}
