//! Removes images that nobody uses: when their disk is nearly full, when they are old, or when the node is short of space.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kedge_base::TaskGroup;
use kedge_client::EventType;
use kedge_cri::{Error, v1};
use parking_lot::Mutex;
use serde_json::Value;
use tracing::{debug, info, warn};

use super::image_name::with_tag;
use crate::kubelet::Kubelet;
use crate::metrics::label;
use crate::node;
use crate::pod::PodExt;

/// Upstream's `ImageGCPeriod`.
const PERIOD: Duration = Duration::from_secs(300);

/// What is remembered of an image, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Duration,
    last_used: Duration,
}

/// What is known of the images of a node.
#[derive(Default)]
pub(crate) struct ImageGc {
    seen: Mutex<HashMap<String, Seen>>,
}

/// Images as they are, and which of them somebody needs.
struct Look {
    images: Vec<v1::Image>,
    used: HashSet<String>,
    seen: HashMap<String, Seen>,
    now: Duration,
}

/// Starts to look at the disk of images.
pub(crate) fn start(kubelet: Arc<Kubelet>, tasks: &TaskGroup) {
    tasks.spawn_worker("image-gc", move || {
        let kubelet = kubelet.clone();
        async move {
            loop {
                kubelet.clock.sleep(PERIOD).await;
                if let Err(error) = round(&kubelet).await {
                    warn!(%error, "cannot look after unused images");
                }
            }
        }
    });
}

async fn look(kubelet: &Kubelet) -> Result<Look, Error> {
    let images = kubelet.runtime.list_images().await?;
    let containers = kubelet.runtime.list_containers(HashMap::new()).await?;
    let mut used: HashSet<String> = containers.into_iter().map(|c| c.image_ref).collect();
    used.extend(sandbox_image(kubelet).await?);
    for image in volume_images(kubelet) {
        let spec = v1::ImageSpec { image, ..Default::default() };
        used.extend(kubelet.runtime.image_status(spec).await?.map(|image| image.id));
    }
    let now = kubelet.clock.monotonic();
    let mut seen = kubelet.image_gc.seen.lock();
    remember(&mut seen, &images, &used, now);
    Ok(Look { images, used, seen: seen.clone(), now })
}

/// Removes everything that nobody uses, because the node is short of space.
///
/// # Errors
/// When it cannot be told what there is.
pub(crate) async fn free_images(kubelet: &Kubelet) -> Result<(), Error> {
    let look = look(kubelet).await?;
    let all = look.unused(kubelet.config.args.image_min_age);
    remove(kubelet, all, u64::MAX, "space").await;
    Ok(())
}

/// Removes images in their order until so much is free; returns how much is.
async fn remove(kubelet: &Kubelet, images: Vec<&v1::Image>, wanted: u64, reason: &str) -> u64 {
    let mut freed = 0_u64;
    for image in images {
        if freed >= wanted {
            break;
        }
        debug!(image = image.id, reason, "removing an unused image");
        let spec = v1::ImageSpec { image: image.id.clone(), ..Default::default() };
        match kubelet.runtime.remove_image(spec).await {
            Ok(()) => {
                freed = freed.saturating_add(image.size);
                kubelet.metrics.images_collected.add(label("reason", reason));
            }
            Err(error) => warn!(image = image.id, %error, "cannot remove an unused image"),
        }
    }
    freed
}

async fn round(kubelet: &Kubelet) -> Result<(), Error> {
    let look = look(kubelet).await?;
    let args = &kubelet.config.args;
    // Upstream counts from its own start, too: what was used before is not known.
    if let Some(most) = args.image_max_age.filter(|most| look.now > *most) {
        let old = look.unused(args.image_min_age).into_iter().filter(|image| look.is_older(image, most));
        remove(kubelet, old.collect(), u64::MAX, "age").await;
    }
    // As upstream has it, a high mark of 100 percent turns this off.
    if args.image_gc_high >= 100 {
        return Ok(());
    }
    let info = kubelet.runtime.image_fs_info().await?;
    let path = info.image_filesystems.first().and_then(|f| f.fs_id.as_ref()).map(|id| id.mountpoint.clone());
    let Some(path) = path else { return Ok(()) };
    let measured = path.clone();
    let space = kubelet.files.of_node("image-gc", "measure", Path::new(&path), move || space(&measured)).await;
    let space = space.unwrap_or_else(|error| {
        warn!(%error, "cannot measure how much of the disk of images is left");
        None
    });
    let Some((capacity, available)) = space else { return Ok(()) };
    let (high, low) = (u64::from(args.image_gc_high), u64::from(args.image_gc_low));
    if capacity == 0 || used_percent(capacity, available) < high {
        return Ok(());
    }
    let wanted = (capacity / 100 * (100 - low)).saturating_sub(available);
    let freed = remove(kubelet, look.unused(args.image_min_age), wanted, "space").await;
    info!(freed, wanted, "unused images were removed");
    if freed < wanted {
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found \
             {freed} bytes eligible to free."
        );
        let node = node::reference(&kubelet.config.node_name);
        kubelet.event(&node, EventType::Warning, "FreeDiskSpaceFailed", message);
    }
    Ok(())
}

impl Look {
    /// What may go, in the order in which it goes.
    fn unused(&self, min_age: Duration) -> Vec<&v1::Image> {
        unused(&self.images, &self.used, &self.seen, self.now, min_age)
    }

    /// Whether it was last used, or first seen, so long ago.
    fn is_older(&self, image: &v1::Image, most: Duration) -> bool {
        self.seen.get(&image.id).is_some_and(|seen| self.now.saturating_sub(seen.last_used.max(seen.first)) > most)
    }
}

/// Older runtimes do not say that the image of their sandboxes is needed.
async fn sandbox_image(kubelet: &Kubelet) -> Result<Option<String>, Error> {
    let status = kubelet.runtime.status(true).await?;
    let config = status.info.get("config").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let name = config.as_ref().and_then(|c| c.get("sandboxImage")).and_then(Value::as_str);
    let Some(name) = name else { return Ok(None) };
    let spec = v1::ImageSpec { image: name.to_string(), ..Default::default() };
    Ok(kubelet.runtime.image_status(spec).await?.map(|image| image.id))
}

/// The names of images that are mounted as volumes of pods, or are about to be.
fn volume_images(kubelet: &Kubelet) -> BTreeSet<String> {
    // Few pods have any, and decoding is most of the work.
    let pods = kubelet.pods.list().into_iter().filter(|raw| raw.json().contains("\"reference\""));
    pods.filter_map(|raw| raw.decode().ok()).flat_map(|pod| image_names(&pod)).collect()
}

/// Of a pod that has not ended, as they are asked for when they are pulled.
fn image_names(pod: &Pod) -> Vec<String> {
    if pod.is_terminal() {
        return Vec::new();
    }
    let images = pod.volumes().iter().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    // What cannot be a name was never pulled.
    images.filter_map(|reference| with_tag(reference).ok()).collect()
}

/// (capacity, available) in bytes.
fn space(path: &str) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
}

fn used_percent(capacity: u64, available: u64) -> u64 {
    100_u64.saturating_sub(available.saturating_mul(100) / capacity.max(1))
}

fn remember(seen: &mut HashMap<String, Seen>, images: &[v1::Image], used: &HashSet<String>, now: Duration) {
    seen.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in images {
        let entry = seen.entry(image.id.clone()).or_insert(Seen { first: now, last_used: Duration::ZERO });
        if used.contains(&image.id) {
            entry.last_used = now;
        }
    }
}

/// What may go, in the order in which it goes: longest unused first.
fn unused<'a>(
    images: &'a [v1::Image],
    used: &HashSet<String>,
    seen: &HashMap<String, Seen>,
    now: Duration,
    min_age: Duration,
) -> Vec<&'a v1::Image> {
    let of = |image: &v1::Image| seen.get(&image.id).copied();
    let old = |image: &v1::Image| of(image).is_some_and(|s| now.saturating_sub(s.first) >= min_age);
    let mut free: Vec<&v1::Image> = images.iter().filter(|i| !i.pinned && !used.contains(&i.id) && old(i)).collect();
    free.sort_by_key(|image| of(image).map(|s| (s.last_used, s.first)));
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::{pod, pod_with};
    use serde_json::json;

    #[test]
    fn images_in_volumes_are_named_until_the_pod_has_ended() {
        let volume = |reference: &str| json!({"name": "v", "image": {"reference": reference}});
        let spec = json!({"containers": [], "volumes": [volume("a.io/model"), volume("a.io/b:1"), volume("No/Name"),
            {"name": "e", "emptyDir": {}}]});
        assert_eq!(image_names(&pod(spec.clone())), ["a.io/model:latest", "a.io/b:1"]);
        assert!(image_names(&pod_with(json!({}), spec, json!({"phase": "Succeeded"}))).is_empty());
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_is_needed_stays() {
        let image = |id: &str, pinned| v1::Image { id: id.into(), pinned, size: 1, ..Default::default() };
        let images = [image("a", false), image("b", false), image("used", false), image("pinned", true)];
        let at = Duration::from_secs;
        let mut seen = HashMap::new();
        remember(&mut seen, &images, &HashSet::from(["a".to_string()]), at(0));
        let used = HashSet::from(["used".to_string()]);
        remember(&mut seen, &images, &HashSet::from(["used".to_string(), "a".to_string()]), at(10));
        let ids = |now| unused(&images, &used, &seen, now, at(120)).iter().map(|i| i.id.clone()).collect::<Vec<_>>();
        assert!(ids(at(60)).is_empty());
        assert_eq!(ids(at(200)), ["b", "a"]);
        assert_eq!(used_percent(100, 15), 85);
    }
}
