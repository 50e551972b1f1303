//! ConfigMap `cluster-info` in `kube-public`, where an administrator has made one: the kubeconfig in it is signed with every
//! bootstrap token that may sign, so that whoever has such a token knows that it is of this cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use kedge_client::{Error, Informer, ListParams, Patch};
use kedge_meta::{ObjectKey, ObjectMeta, resources};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::secret::BootstrapSecret;
use crate::context::Context;
use crate::objects::{Meta, keyed};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const SIGNED: &str = "kubeconfig";
/// What signatures are called, but for the identity of the token.
const SIGNATURE: &str = "jws-kubeconfig-";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ConfigMap {
    metadata: ObjectMeta,
    data: BTreeMap<String, String>,
}
keyed!(ConfigMap);

struct Controller {
    ctx: Context,
    secrets: Informer<BootstrapSecret>,
    maps: Informer<ConfigMap>,
}

pub(super) fn start(ctx: &Context, secrets: &Informer<BootstrapSecret>) {
    let only_ours = ListParams::fields(format!("metadata.name={NAME}"));
    let maps: Informer<ConfigMap> =
        Informer::start_in(&ctx.client, &ctx.tasks, &resources::CONFIG_MAPS, NAMESPACE, only_ours);
    let queue = ctx.queue();
    let q = queue.clone();
    maps.on_change(move |change| q.add(change.key()));
    let q = queue.clone();
    secrets.on_change(move |_| q.add(ObjectKey::new(NAMESPACE, NAME)));
    let controller = Arc::new(Controller { ctx: ctx.clone(), secrets: secrets.clone(), maps });
    let c = controller.clone();
    let synced = async move {
        c.maps.synced().await;
        c.secrets.synced().await;
    };
    ctx.work("bootstrap-signer", &queue, 1, synced, controller, |c, _: ObjectKey| async move { c.reconcile().await });
}

/// The signature of a text with a token: a JSON Web Signature without what it signs.
fn signature(text: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":{}}}", json!(id)));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(text)).as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// What of the map is to be changed: signatures that lack or are others, and nulls for those of tokens that are gone.
fn plan(data: &BTreeMap<String, String>, secrets: &[Arc<BootstrapSecret>], now: Timestamp) -> Map<String, Value> {
    let Some(text) = data.get(SIGNED) else { return Map::new() };
    let signed = secrets.iter().filter_map(|secret| secret.signs(now));
    let wanted: BTreeMap<String, String> =
        signed.map(|(id, secret)| (format!("{SIGNATURE}{id}"), signature(text, id, secret))).collect();
    let gone = data.keys().filter(|key| key.starts_with(SIGNATURE) && !wanted.contains_key(*key));
    let mut changes: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    let new = wanted.into_iter().filter(|(key, signature)| data.get(key) != Some(signature));
    changes.extend(new.map(|(key, signature)| (key, signature.into())));
    changes
}

impl Controller {
    async fn reconcile(&self) -> Result<(), Error> {
        let Some(map) = self.maps.get(NAMESPACE, NAME) else { return Ok(()) };
        let changes = plan(&map.data, &self.secrets.list(), self.ctx.clock.now());
        if changes.is_empty() {
            return Ok(());
        }
        let metadata = json!({ "resourceVersion": map.metadata.resource_version });
        let patch = Patch::Merge(json!({ "metadata": metadata, "data": changes }));
        match self.ctx.client.patch::<Meta>(&resources::CONFIG_MAPS, NAMESPACE, NAME, patch, None).await {
            // An event tells of what somebody else has made of it.
            Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
            other => other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::secret::tests::secret;
    use super::*;

    /// As upstream signs them.
    #[test]
    fn signatures_are_those_of_upstream() {
        let text = "Hello from the other side. I must have called a thousand times.";
        let head = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..";
        let signed = |text: &str| signature(text, "joshua", "my voice is my passcode");
        assert_eq!(signed(text), format!("{head}VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"));
        assert_eq!(signed(""), format!("{head}7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk"));
    }

    #[test]
    fn there_is_one_signature_for_each_token() {
        let now = "2026-03-04T05:06:07Z".parse().unwrap();
        let secrets = [secret("abcdef", "0123456789abcdef", ""), secret("old111", "x", "2026-01-01T00:00:00Z")];
        let secrets = secrets.map(Arc::new);
        let mut data = BTreeMap::from([(SIGNED.to_owned(), "k".to_owned()), ("other".to_owned(), "o".to_owned())]);
        data.insert("jws-kubeconfig-gone11".into(), "s".into());
        let changes = plan(&data, &secrets, now);
        let right = signature("k", "abcdef", "0123456789abcdef");
        let wanted = json!({ "jws-kubeconfig-abcdef": right, "jws-kubeconfig-gone11": null });
        assert_eq!(Value::from(changes), wanted);
        data.remove("jws-kubeconfig-gone11");
        data.insert("jws-kubeconfig-abcdef".into(), right);
        assert!(plan(&data, &secrets, now).is_empty());
        data.insert(SIGNED.into(), "another".into());
        assert_eq!(plan(&data, &secrets, now).len(), 1);
        data.remove(SIGNED);
        assert!(plan(&data, &secrets, now).is_empty(), "there is nothing to sign");
    }
}
