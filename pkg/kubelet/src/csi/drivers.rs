//! The drivers that have registered, and what the API says of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kedge_client::{Client, Error};
use kedge_csi::NodeDriver;
use kedge_csi::v1::node_service_capability::rpc::Type;
use kedge_meta::{nullable, resources};
use parking_lot::RwLock;
use serde::Deserialize;

/// A driver that is there.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) driver: NodeDriver,
    socket: PathBuf,
}

/// By name.
#[derive(Default)]
pub(super) struct Drivers(RwLock<BTreeMap<String, Registered>>);

impl Drivers {
    pub(super) fn add(&self, name: &str, socket: &Path) {
        let registered = Registered { driver: NodeDriver::new(socket), socket: socket.to_path_buf() };
        self.0.write().insert(name.to_owned(), registered);
    }

    /// Forgets the driver at that socket; one that has come to another place meanwhile stays.
    pub(super) fn remove(&self, name: &str, socket: &Path) -> bool {
        let mut drivers = self.0.write();
        let gone = drivers.get(name).is_some_and(|driver| driver.socket == socket);
        if gone {
            drivers.remove(name);
        }
        gone
    }

    /// # Errors
    /// Upstream's words where it has not registered.
    pub(super) fn get(&self, name: &str) -> Result<NodeDriver, String> {
        let found = self.0.read().get(name).map(|registered| registered.driver.clone());
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }
}

/// What a driver can do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities {
    pub(super) stage: bool,
    pub(super) expand: bool,
    pub(super) mount_group: bool,
    pub(super) single_node_multi_writer: bool,
}

impl Abilities {
    pub(super) async fn of(driver: &NodeDriver) -> Result<Abilities, kedge_csi::Error> {
        let list = driver.capabilities().await?;
        let can = |kind: Type| list.contains(&(kind as i32));
        Ok(Abilities {
            stage: can(Type::StageUnstageVolume),
            expand: can(Type::ExpandVolume),
            mount_group: can(Type::VolumeMountGroup),
            single_node_multi_writer: can(Type::SingleNodeMultiWriter),
        })
    }
}

/// What the object `CSIDriver` says; without one, what is so by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DriverSpec {
    attach_required: Option<bool>,
    pod_info_on_mount: Option<bool>,
    fs_group_policy: Option<String>,
    #[serde(deserialize_with = "nullable")]
    volume_lifecycle_modes: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) token_requests: Vec<Audience>,
    requires_republish: Option<bool>,
    service_account_token_in_secrets: Option<bool>,
    /// Whether there is such an object.
    #[serde(skip)]
    pub(super) known: bool,
}

/// Whom a token is for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Audience {
    #[serde(deserialize_with = "nullable")]
    pub(super) audience: String,
    pub(super) expiration_seconds: Option<i64>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    spec: DriverSpec,
}

impl DriverSpec {
    pub(super) async fn get(client: &Client, name: &str) -> Result<DriverSpec, Error> {
        match client.get::<Object>(&resources::CSI_DRIVERS, "", name).await {
            Ok(object) => Ok(DriverSpec { known: true, ..object.spec }),
            Err(error) if error.is_not_found() => Ok(DriverSpec::default()),
            Err(error) => Err(error),
        }
    }

    /// Whether volumes are attached by a controller before they come here.
    pub(super) fn attaches(&self) -> bool {
        self.attach_required != Some(false)
    }

    pub(super) fn wants_pod(&self) -> bool {
        self.pod_info_on_mount == Some(true)
    }

    /// Whether it is asked again and again, with new tokens.
    pub(super) fn republishes(&self) -> bool {
        self.requires_republish == Some(true)
    }

    pub(super) fn tokens_in_secrets(&self) -> bool {
        self.service_account_token_in_secrets == Some(true)
    }

    /// How volumes may live.
    pub(super) fn modes(&self) -> Vec<&str> {
        match self.volume_lifecycle_modes.as_slice() {
            [] => vec!["Persistent"],
            modes => modes.iter().map(String::as_str).collect(),
        }
    }

    /// Whether volumes may live that way.
    pub(super) fn lives(&self, mode: &str) -> bool {
        self.modes().contains(&mode)
    }

    /// Whether the files are given to the pod's group here.
    pub(super) fn sets_group(&self, fs_type: &str, read_write_once: bool) -> bool {
        match self.fs_group_policy.as_deref().unwrap_or("ReadWriteOnceWithFSType") {
            "None" => false,
            "File" => true,
            _ => !fs_type.is_empty() && read_write_once,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_is_so_by_default() {
        let none = DriverSpec::default();
        assert!(none.attaches() && none.lives("Persistent") && !none.lives("Ephemeral") && !none.wants_pod());
        assert!(none.sets_group("ext4", true) && !none.sets_group("", true) && !none.sets_group("ext4", false));
        let said: DriverSpec = serde_json::from_value(json!({"attachRequired": false, "fsGroupPolicy": "File",
            "volumeLifecycleModes": ["Ephemeral"], "tokenRequests": null, "requiresRepublish": true}))
        .unwrap();
        assert!(!said.attaches() && said.sets_group("", false) && said.lives("Ephemeral") && !said.lives("Persistent"));
        assert!(said.republishes());
    }

    #[test]
    fn a_driver_that_moved_is_not_forgotten_with_its_old_place() {
        let drivers = Drivers::default();
        let (old, new) = (Path::new("/a.sock"), Path::new("/b.sock"));
        // A channel needs a runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        drivers.add("d", old);
        drivers.add("d", new);
        assert!(!drivers.remove("d", old));
        assert!(drivers.get("d").is_ok());
        assert!(drivers.remove("d", new));
        let error = drivers.get("d").unwrap_err();
        assert_eq!(error, "driver name d not found in the list of registered CSI drivers");
    }
}
