//! What pods use, what is attached, and what was taken by force: metrics by upstream's names.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use kedge_base::exposition::{Counters, Exposition, Shown, written};
use parking_lot::Mutex;

use super::Controller;
use super::objects::{Place, split};
use super::plan::Force;

/// The controller's metrics. It is looked at when somebody asks.
#[derive(Default)]
pub(super) struct Meters {
    forced: Counters,
    controller: Mutex<Weak<Controller>>,
}

/// The plugin of a volume, with its driver.
fn plugin(unique: &str) -> String {
    split(unique).map_or("N/A".to_owned(), |(driver, _)| format!("kubernetes.io/csi:{driver}"))
}

fn counted<'a>(places: impl Iterator<Item = &'a Place>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    places.for_each(|place| *counts.entry(plugin(&place.volume)).or_default() += 1);
    counts
}

impl Meters {
    pub(super) fn look_at(&self, controller: &Arc<Controller>) {
        *self.controller.lock() = Arc::downgrade(controller);
    }

    pub(super) fn forced(&self, why: Force) {
        self.forced.add(written(&[("reason", why.name())]));
    }
}

impl Shown for Meters {
    fn show(&self, out: &mut Exposition) {
        let name = "attach_detach_controller_attachdetach_controller_forced_detaches";
        self.forced.show(out, name, "[ALPHA] Number of times the A/D Controller performed a forced detach");
        let Some(controller) = self.controller.lock().upgrade() else { return };
        let (wanted, attached) = (controller.all_wanted(), controller.all_attached());
        let mut in_use: BTreeMap<(&str, String), u64> = BTreeMap::new();
        for (place, pods) in &wanted {
            *in_use.entry((place.node.as_str(), plugin(&place.volume))).or_default() += *pods;
        }
        let name = "storage_count_attachable_volumes_in_use";
        out.family(name, "gauge", "[ALPHA] Measure number of volumes in use");
        for ((node, plugin), count) in in_use {
            out.sample(name, &[("node", node), ("volume_plugin", &plugin)], count as f64);
        }
        let name = "attachdetach_controller_total_volumes";
        out.family(name, "gauge", "[ALPHA] Number of volumes in A/D Controller");
        for (state, counts) in
            [("actual_state_of_world", counted(attached.iter())), ("desired_state_of_world", counted(wanted.keys()))]
        {
            for (plugin, count) in counts {
                out.sample(name, &[("plugin_name", &plugin), ("state", state)], count as f64);
            }
        }
    }
}
