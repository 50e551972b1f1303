//! Tokens that were made for accounts long ago, in secrets, and that nobody has used for a year: they are marked, so that they are
//! not taken any more, and deleted when nobody has missed them for another year.
//!
//! Invariant: what was made by hand, what a pod has, and what may have been used before uses were noted, stays.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use kedge_client::{DeleteOptions, Error, Informer, ListParams, Patch, Preconditions};
use kedge_meta::resources;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::context::Context;
use crate::legacy_token_tracking::{MAP, NAMESPACE, SINCE, day};
use crate::objects::{Meta, parse_time};
use crate::serviceaccount_tokens::{Account, TokenSecret};

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
/// How long a token may lie unused, and then lie marked.
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Between two looks.
const PASS: Duration = Duration::from_secs(24 * 3600);
/// Pods that are read at once.
const PAGE: u64 = 100;

#[derive(Clone)]
struct Cleaner {
    ctx: Context,
    accounts: Informer<Account>,
    secrets: Informer<TokenSecret>,
}

/// Starts the controller.
pub fn start(ctx: &Context, accounts: Informer<Account>, secrets: Informer<TokenSecret>) {
    let cleaner = Cleaner { ctx: ctx.clone(), accounts, secrets };
    ctx.tasks.spawn_worker("legacy-service-account-token-cleaner", move || {
        let cleaner = cleaner.clone();
        async move {
            cleaner.accounts.synced().await;
            cleaner.secrets.synced().await;
            loop {
                if let Err(err) = cleaner.pass().await {
                    warn!(error = %err, "cannot look for tokens that nobody uses; it is tried again tomorrow");
                }
                cleaner.ctx.clock.sleep(PASS).await;
            }
        }
    });
}

/// What is to be done about a secret.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Mark,
    Delete,
}

/// What to do about a secret, by what it says of itself. Whether a pod has it is asked last.
fn plan(secret: &TokenSecret, account: Option<&Account>, now: Timestamp) -> Option<Action> {
    let metadata = &secret.metadata;
    let (long_ago, label) = (now - YEAR, |key: &str| metadata.labels.get(key));
    let first_day_kept = day(long_ago);
    let is_old = parse_time(metadata.creation_timestamp.as_ref()).is_some_and(|created| created < long_ago);
    if !is_old || metadata.deletion_timestamp.is_some() {
        return None;
    }
    if let Some(used) = label(LAST_USED)
        && (!is_day(used) || used >= first_day_kept.as_str())
    {
        return None;
    }
    // By this it is known that it was made for the account.
    if !account.is_some_and(|account| {
        secret.is_for(&account.metadata.name, &account.metadata.uid) && account.names(&metadata.name)
    }) {
        return None;
    }
    match label(INVALID_SINCE).filter(|since| is_day(since)) {
        None => Some(Action::Mark),
        Some(since) if since < first_day_kept.as_str() => Some(Action::Delete),
        Some(_) => None,
    }
}

fn is_day(text: &str) -> bool {
    text.len() == 10 && text.parse::<Date>().is_ok()
}

/// Whether uses have been noted for a whole year. The first day counts as none, since it had begun.
fn is_known_for_long(since: &str, now: Timestamp) -> Option<bool> {
    let next = since.parse::<Date>().ok().filter(|_| is_day(since))?.checked_add(1.day()).ok()?;
    let begun = next.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(now >= begun + YEAR)
}

impl Cleaner {
    async fn pass(&self) -> Result<(), Error> {
        let (client, now) = (&self.ctx.client, self.ctx.clock.now());
        let map: Value = match client.get(&resources::CONFIG_MAPS, NAMESPACE, MAP).await {
            // Uses are not noted.
            Err(err) if err.is_not_found() => return Ok(()),
            map => map?,
        };
        let since = map["data"][SINCE].as_str().unwrap_or_default();
        let Some(true) = is_known_for_long(since, now) else { return Ok(()) };
        let mut mounted: HashMap<String, BTreeSet<String>> = HashMap::new();
        for secret in self.secrets.list() {
            let metadata = &secret.metadata;
            let named = metadata.annotations.get(ACCOUNT).unwrap_or_default();
            let account = self.accounts.get(&metadata.namespace, named);
            let Some(action) = plan(&secret, account.as_deref(), now) else { continue };
            if !mounted.contains_key(&metadata.namespace) {
                mounted.insert(metadata.namespace.clone(), self.mounted(&metadata.namespace).await?);
            }
            if mounted.get(&metadata.namespace).is_some_and(|names| names.contains(&metadata.name)) {
                continue;
            }
            if let Err(err) = self.act(&secret, &action, now).await {
                warn!(error = %err, namespace = metadata.namespace, secret = metadata.name, "cannot mark or delete a token that nobody uses");
            }
        }
        Ok(())
    }

    async fn act(&self, secret: &Arc<TokenSecret>, action: &Action, now: Timestamp) -> Result<(), Error> {
        let (client, metadata) = (&self.ctx.client, &secret.metadata);
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        match action {
            Action::Mark => {
                info!(
                    namespace,
                    secret = name,
                    "a token that was made for an account has not been used for a year: it is not taken any more"
                );
                let patch = json!({ "metadata": { "uid": metadata.uid, "labels": { INVALID_SINCE: day(now) } } });
                client.patch::<Meta>(&resources::SECRETS, namespace, name, Patch::Merge(patch), None).await.map(drop)
            }
            Action::Delete => {
                info!(
                    namespace,
                    secret = name,
                    "a token that was made for an account has not been missed for a year: it is deleted"
                );
                // Whoever shows it now has it noted, which changes the secret.
                let preconditions =
                    Preconditions { uid: None, resource_version: Some(metadata.resource_version.clone()) };
                let options = DeleteOptions { preconditions: Some(preconditions), ..DeleteOptions::default() };
                match client.delete(&resources::SECRETS, namespace, name, &options).await {
                    Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
                    other => other,
                }
            }
        }
    }

    /// The secrets that pods of a namespace have.
    async fn mounted(&self, namespace: &str) -> Result<BTreeSet<String>, Error> {
        let (mut names, mut params) = (BTreeSet::new(), ListParams { limit: PAGE, ..ListParams::default() });
        loop {
            let page = self.ctx.client.list::<Value>(&resources::PODS, namespace, &params).await?;
            page.items.iter().for_each(|pod| secrets_of(&pod["spec"], &mut names));
            if page.continue_.is_empty() {
                return Ok(names);
            }
            params.continue_ = page.continue_;
        }
    }
}

/// Every secret that a part of a pod names, wherever it does so.
fn secrets_of(part: &Value, names: &mut BTreeSet<String>) {
    let mut add = |name: &Value| names.extend(name.as_str().map(str::to_owned));
    match part {
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    "secretName" => add(value),
                    "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => add(&value["name"]),
                    "imagePullSecrets" => {
                        value.as_array().into_iter().flatten().for_each(|reference| add(&reference["name"]));
                    }
                    _ => {}
                }
            }
            fields.values().for_each(|value| secrets_of(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| secrets_of(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: &str = "2026-03-04T05:06:07Z";

    fn account() -> Account {
        let account = json!({ "metadata": { "name": "a", "uid": "u" }, "secrets": [{ "name": "s" }] });
        serde_json::from_value(account).unwrap()
    }

    fn secret(created: &str, labels: &Value) -> TokenSecret {
        let annotations = json!({ ACCOUNT: "a", "kubernetes.io/service-account.uid": "u" });
        let metadata =
            json!({ "name": "s", "creationTimestamp": created, "labels": labels, "annotations": annotations });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn planned(created: &str, labels: &Value) -> Option<Action> {
        plan(&secret(created, labels), Some(&account()), NOW.parse().unwrap())
    }

    #[test]
    fn a_token_is_marked_after_a_year_and_deleted_after_another() {
        let old = "2024-01-01T00:00:00Z";
        assert_eq!(planned(old, &json!({})), Some(Action::Mark));
        assert_eq!(planned("2025-03-05T00:00:00Z", &json!({})), None, "it is young");
        assert_eq!(planned(old, &json!({ LAST_USED: "2025-03-04" })), None, "a year ago to the day");
        assert_eq!(planned(old, &json!({ LAST_USED: "2025-03-03" })), Some(Action::Mark));
        assert_eq!(planned(old, &json!({ LAST_USED: "lately" })), None, "who knows");
        assert_eq!(planned(old, &json!({ INVALID_SINCE: "2025-03-04" })), None);
        assert_eq!(planned(old, &json!({ INVALID_SINCE: "2025-03-03" })), Some(Action::Delete));
        assert_eq!(planned(old, &json!({ INVALID_SINCE: "yes" })), Some(Action::Mark));
        assert_eq!(
            planned(old, &json!({ INVALID_SINCE: "2025-01-01", LAST_USED: "2026-03-01" })),
            None,
            "it is missed"
        );
    }

    #[test]
    fn what_was_made_by_hand_stays() {
        let (old, now) = (secret("2024-01-01T00:00:00Z", &json!({})), NOW.parse().unwrap());
        let by_hand = Account { secrets: Vec::new(), ..account() };
        assert_eq!(plan(&old, Some(&by_hand), now), None);
        assert_eq!(plan(&old, None, now), None);
        let mut other = account();
        other.metadata.uid = "v".into();
        assert_eq!(plan(&old, Some(&other), now), None, "of another life");
    }

    #[test]
    fn a_year_of_notes_is_needed() {
        let known = |since: &str, now: &str| is_known_for_long(since, now.parse().unwrap());
        assert_eq!(known("2025-03-03", NOW), Some(true));
        assert_eq!(known("2025-03-04", NOW), Some(false));
        assert_eq!(known("2025-03-04", "2026-03-05T00:00:00Z"), Some(true));
        assert_eq!(known("soon", NOW), None);
    }

    #[test]
    fn secrets_are_found_wherever_a_pod_names_them() {
        let spec = json!({
            "imagePullSecrets": [{ "name": "pull" }],
            "containers": [{ "env": [{ "valueFrom": { "secretKeyRef": { "name": "env", "key": "k" } } }] }],
            "ephemeralContainers": [{ "envFrom": [{ "secretRef": { "name": "all" } }] }],
            "volumes": [
                { "name": "not", "secret": { "secretName": "volume" } },
                { "projected": { "sources": [{ "secret": { "name": "projected" } }] } },
                { "csi": { "nodePublishSecretRef": { "name": "csi" } } },
            ],
        });
        let mut names = BTreeSet::new();
        secrets_of(&spec, &mut names);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["all", "csi", "env", "projected", "pull", "volume"]);
    }
}
