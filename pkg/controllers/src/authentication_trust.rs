//! What extension API servers trust, as ConfigMap `extension-apiserver-authentication`: the authorities of clients and of the
//! proxy in front of them, and the headers by which the proxy says who asks.
//!
//! Invariant: what other servers of the cluster have written stays, so that each of them is trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_client::{Error, Informer, ListParams, Patch};
use kedge_meta::{ObjectKey, ObjectMeta, resources};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::context::Context;
use crate::objects::keyed;
use crate::serviceaccount::tolerate_races;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// The authorities, as PEM, and the name by which the proxy is known.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    pub client_ca: String,
    pub request_header_ca: String,
    pub proxy_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ConfigMap {
    metadata: ObjectMeta,
    data: BTreeMap<String, String>,
}
keyed!(ConfigMap);

struct Controller {
    ctx: Context,
    maps: Informer<ConfigMap>,
    trust: Trust,
}

/// Starts the controller.
pub fn start(ctx: &Context, trust: Trust) {
    let only_ours = ListParams::fields(format!("metadata.name={NAME}"));
    let maps: Informer<ConfigMap> =
        Informer::start_in(&ctx.client, &ctx.tasks, &resources::CONFIG_MAPS, NAMESPACE, only_ours);
    let queue = ctx.queue();
    queue.add(ObjectKey::new(NAMESPACE, NAME));
    let q = queue.clone();
    maps.on_change(move |change| q.add(change.key()));
    // It goes with its namespace, and comes back with it.
    let q = queue.clone();
    ctx.namespaces.on_change(move |change| {
        if change.old.is_none() && change.key().name == NAMESPACE {
            q.add(ObjectKey::new(NAMESPACE, NAME));
        }
    });
    let controller = Arc::new(Controller { ctx: ctx.clone(), maps: maps.clone(), trust });
    let synced = async move { maps.synced().await };
    ctx.work(
        "authentication-trust",
        &queue,
        1,
        synced,
        controller,
        |c, _: ObjectKey| async move { c.reconcile().await },
    );
}

/// What the map should hold: what it has, and what is trusted here.
fn combined(have: &BTreeMap<String, String>, trust: &Trust) -> BTreeMap<String, String> {
    let mut data = BTreeMap::new();
    for (key, pem) in [("client-ca-file", &trust.client_ca), ("requestheader-client-ca-file", &trust.request_header_ca)]
    {
        let mut all = certificates(have.get(key).map(String::as_str).unwrap_or_default());
        let more: Vec<String> = certificates(pem).into_iter().filter(|c| !all.contains(c)).collect();
        all.extend(more);
        data.insert(key.to_owned(), all.concat());
    }
    for (key, own) in [
        ("requestheader-allowed-names", trust.proxy_name.as_str()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-username-headers", "X-Remote-User"),
    ] {
        let mut all = names(key, have.get(key).map(String::as_str).unwrap_or_default());
        if !all.iter().any(|name| name == own) {
            all.push(own.to_owned());
        }
        data.insert(key.to_owned(), json!(all).to_string());
    }
    // Servers that take a user's uid from a header too say so; this one does not.
    data.extend(have.get_key_value("requestheader-uid-headers").map(|(key, value)| (key.clone(), value.clone())));
    data
}

/// The certificates of a bundle, each as it stands there and with one line feed at its end.
fn certificates(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts =
        bundle.split_inclusive(END).filter_map(|part| part.find("-----BEGIN CERTIFICATE-----").map(|at| &part[at..]));
    parts.filter(|part| part.ends_with(END)).map(|part| format!("{part}\n")).collect()
}

fn names(key: &str, text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    serde_json::from_str(text).unwrap_or_else(|err| {
        warn!(key, error = %err, "what others wrote to {NAME} cannot be read and is replaced");
        Vec::new()
    })
}

impl Controller {
    async fn reconcile(&self) -> Result<(), Error> {
        let client = &self.ctx.client;
        let map = self.maps.get(NAMESPACE, NAME);
        let have = map.as_ref().map(|map| map.data.clone()).unwrap_or_default();
        let want = combined(&have, &self.trust);
        let Some(map) = map else {
            let metadata = json!({ "name": NAME, "namespace": NAMESPACE });
            let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": want });
            return tolerate_races(client.create(&resources::CONFIG_MAPS, NAMESPACE, &map).await);
        };
        if have == want {
            return Ok(());
        }
        let mut data = json!(want);
        for key in have.keys().filter(|key| !want.contains_key(*key)) {
            data[key] = Value::Null;
        }
        let patch = json!({ "metadata": { "resourceVersion": map.metadata.resource_version }, "data": data });
        let patched = client.patch(&resources::CONFIG_MAPS, NAMESPACE, NAME, Patch::Merge(patch), None).await;
        tolerate_races(patched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(body: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    fn trust() -> Trust {
        Trust { client_ca: pem("client"), request_header_ca: pem("proxy"), proxy_name: "me".into() }
    }

    #[test]
    fn a_new_map_has_everything() {
        let data = combined(&BTreeMap::new(), &trust());
        assert_eq!(data["client-ca-file"], pem("client"));
        assert_eq!(data["requestheader-client-ca-file"], pem("proxy"));
        assert_eq!(data["requestheader-allowed-names"], r#"["me"]"#);
        assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User"]"#);
        assert_eq!(data.len(), 6);
        assert_eq!(combined(&data, &trust()), data, "nothing is left to do");
    }

    #[test]
    fn what_other_servers_wrote_stays() {
        let have = BTreeMap::from(
            [
                ("client-ca-file", format!("{}# a comment\n{}", pem("other"), pem("client"))),
                ("requestheader-allowed-names", r#"["them"]"#.into()),
                ("requestheader-group-headers", "nonsense".into()),
                ("something-else", "x".into()),
            ]
            .map(|(key, value): (&str, String)| (key.to_owned(), value)),
        );
        let data = combined(&have, &trust());
        assert_eq!(data["client-ca-file"], pem("other") + &pem("client"));
        assert_eq!(data["requestheader-allowed-names"], r#"["them","me"]"#);
        assert_eq!(data["requestheader-group-headers"], r#"["X-Remote-Group"]"#);
        assert!(!data.contains_key("something-else"));
    }
}
