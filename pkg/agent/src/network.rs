//! The pod network of this node: set up as soon as the node has its range.

use std::os::unix::fs::symlink;
use std::path::Path;

use kedge_client::{Informer, Keyed, ListParams};
use kedge_cni::{Ipv4Net, Settings};
use kedge_meta::{ObjectMeta, resources};
use kedge_nft::Nft;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::info;

use crate::config::AgentConfig;
use crate::containerd::Paths;
use crate::error::Error;

/// Smallest common size of frames that a pod may send.
const MTU: u32 = 1500;

/// What is read of the node.
#[derive(Debug, Deserialize)]
struct Node {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

impl Keyed for Node {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// Waits until the node controller has given this node its range of pod addresses.
pub(crate) async fn pod_cidr(config: &AgentConfig, tasks: &kedge_base::TaskGroup) -> Option<String> {
    let params = ListParams::fields(format!("metadata.name={}", config.node_name));
    let watching = tasks.child("node range");
    let informer: Informer<Node> = Informer::start(&config.node_client, &watching, &resources::NODES, params);
    let (send, mut receive) = watch::channel(String::new());
    informer.on_change(move |change| {
        if let Some(node) = &change.new {
            send.send_if_modified(|cidr| {
                let changed = *cidr != node.spec.pod_cidr;
                cidr.clone_from(&node.spec.pod_cidr);
                changed
            });
        }
    });
    let found = receive.wait_for(|cidr| !cidr.is_empty()).await.map(|cidr| cidr.clone()).ok();
    watching.shutdown().trigger();
    found
}

/// Links, rules, and the files by which the runtime finds the plug-in. Returns the gateway's address.
pub(crate) async fn set_up(
    config: &AgentConfig,
    paths: &Paths,
    pod_cidr: &str,
    nft: &dyn Nft,
) -> Result<Ipv4Net, Error> {
    let parse = |what: &'static str, text: &str| {
        text.parse::<Ipv4Net>().map_err(|e| Error::Setting { what, value: text.to_owned(), why: e.to_string() })
    };
    let settings = Settings {
        pod_cidr: parse("the node's pod range", pod_cidr)?,
        cluster_cidr: parse("--cluster-cidr", &config.cluster_cidr)?,
        service_cidr: config.service_cidr.as_deref().map(|cidr| parse("--service-cidr", cidr)).transpose()?,
        mtu: MTU,
        data_dir: config.data_dir.clone(),
    };
    let failed = |e: &dyn std::fmt::Display| Error::Failed { program: "pod network", what: e.to_string() };
    kedge_cni::ensure_host(&settings, nft).await.map_err(|e| failed(&e))?;
    let (bin, conflist) = (paths.cni_bin.clone(), paths.cni_conf.join("10-kedge.conflist"));
    let list = kedge_cni::config_list(&settings);
    let place = move || link_plugins(&bin).and_then(|()| write_if_changed(&conflist, &list));
    kedge_base::blocking::unbounded("pod network", place).await.map_err(|e| failed(&e))??;
    info!(pod_cidr, "pod network ready");
    Ok(settings.pod_cidr)
}

fn write_if_changed(path: &Path, content: &str) -> Result<(), Error> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    // Written beside and renamed: the runtime watches the directory.
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, content).map_err(Error::io("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(Error::io("replace", path))
}

/// This binary is the plug-in, under two names.
fn link_plugins(dir: &Path) -> Result<(), Error> {
    let own = std::env::current_exe().map_err(Error::io("find", Path::new("/proc/self/exe")))?;
    for name in [kedge_cni::PLUGIN, "loopback"] {
        let link = dir.join(name);
        if std::fs::read_link(&link).is_ok_and(|target| target == own) {
            continue;
        }
        let temporary = dir.join(format!(".{name}.tmp"));
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &temporary)(e)),
            _ => {}
        }
        symlink(&own, &temporary).map_err(Error::io("link", &temporary))?;
        std::fs::rename(&temporary, &link).map_err(Error::io("replace", &link))?;
    }
    Ok(())
}
