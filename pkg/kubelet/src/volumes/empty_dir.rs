//! `emptyDir`: on the node's disk, in memory, or in huge pages.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume};

use super::{Mounter, ownership};
use crate::pod::{Amount, PodExt, amount, limit_of, request_of};

const HUGE_PAGES: &str = "hugepages-";

/// What a volume is kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Disk,
    /// With its size, or 0 for no limit of its own.
    Memory(u64),
    /// With the size of a page and of the volume.
    HugePages {
        page: u64,
        size: u64,
    },
}

/// The medium that a volume asks for.
///
/// # Errors
/// Upstream's words for one that there is not.
pub(super) fn medium(
    pod: &Pod,
    volume: &Volume,
    source: &EmptyDirVolumeSource,
    machine: i64,
) -> Result<Medium, String> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => Ok(Medium::Memory(memory_size(pod, volume, source, machine))),
        "HugePages" => huge_pages(pod, None),
        other => match other.strip_prefix("HugePages-") {
            Some(page) => huge_pages(pod, Some(page)),
            None => Err(format!("unknown storage medium {other:?}")),
        },
    }
}

/// The limit of the volume, or that of the containers that have it.
fn memory_size(pod: &Pod, volume: &Volume, source: &EmptyDirVolumeSource, machine: i64) -> u64 {
    let mounts = |c: &&Container| c.volume_mounts.iter().flatten().any(|m| m.name == volume.name);
    let users = PodExt::spec(pod).containers.iter().chain(pod.init_containers()).filter(mounts);
    let limits: Vec<Option<Amount>> = users.map(|c| limit_of(c, "memory")).collect();
    let total: i64 = limits.iter().flatten().map(Amount::value).sum();
    let unlimited = limits.is_empty() || limits.iter().any(Option::is_none);
    let of_pod = if unlimited { machine } else { total.min(machine) };
    let own = source.size_limit.as_ref().map(|q| amount(q).value()).filter(|v| *v > 0);
    let size = own.map_or(of_pod, |own| own.min(of_pod));
    u64::try_from(size).unwrap_or_default()
}

/// Huge pages of the size that is named, or of the one size that the pod's containers ask for: as many as they ask for.
fn huge_pages(pod: &Pod, page: Option<&str>) -> Result<Medium, String> {
    let containers = || PodExt::spec(pod).containers.iter().chain(pod.init_containers());
    let requests = |c: &Container| -> Vec<String> {
        let named = c.resources.iter().flat_map(|r| r.requests.iter().chain(&r.limits)).flat_map(|list| list.keys());
        named.filter_map(|name| name.strip_prefix(HUGE_PAGES).map(str::to_owned)).collect()
    };
    let mut pages: Vec<String> = match page {
        Some(page) => vec![page.to_owned()],
        None => containers().flat_map(requests).collect(),
    };
    pages.sort();
    pages.dedup();
    let [page] = pages.as_slice() else {
        return Err(match pages.len() {
            0 => "hugePages storage requested, but there is no resource request for huge pages.".into(),
            _ => "hugePages storage requested, but there are multiple page sizes in the resource requests".into(),
        });
    };
    let name = format!("{HUGE_PAGES}{page}");
    let size: i64 = containers().filter_map(|c| request_of(c, &name).or(limit_of(c, &name))).map(|a| a.value()).sum();
    let bytes = kedge_meta::quantity::Quantity::parse(page).map_err(|error| format!("{page}: {error}"))?.value();
    if size == 0 {
        return Err(format!("medium {page:?}: no resource request for huge pages of that size"));
    }
    let of = |n: i64| u64::try_from(n).unwrap_or_default();
    Ok(Medium::HugePages { page: of(bytes), size: of(size) })
}

/// A directory with the rights for everybody, unless it is `settled`: a container may have given it others since. Blocks.
pub(super) fn make(
    path: &Path,
    medium: &Medium,
    group: Option<u32>,
    settled: bool,
    mounter: &dyn Mounter,
) -> io::Result<()> {
    let fresh = !path.exists();
    fs::create_dir_all(path)?;
    if *medium != Medium::Disk && !mounter.is_mounted(path)? {
        match medium {
            Medium::Disk => {}
            Medium::Memory(size) => mounter.tmpfs(path, *size)?,
            Medium::HugePages { page, size } => mounter.hugetlbfs(path, *page, *size)?,
        }
    }
    if fresh || (!settled && fs::metadata(path)?.permissions().mode() & 0o777 != 0o777) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    match group {
        Some(group) if fresh => ownership::set_group(path, group, false),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::mounter::testing::FakeMounter;
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn memory_volumes_are_limited_by_the_least() {
        let spec = |limit: serde_json::Value, size: serde_json::Value| {
            pod(json!({
                "containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "resources": {"limits": limit}}],
                "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]}))
        };
        let of = |pod: Pod| {
            let volume = &pod.volumes()[0];
            medium(&pod, volume, volume.empty_dir.as_ref().unwrap(), 1 << 30).unwrap()
        };
        assert_eq!(of(spec(json!({}), json!(null))), Medium::Memory(1 << 30));
        assert_eq!(of(spec(json!({"memory": "64Mi"}), json!(null))), Medium::Memory(64 << 20));
        assert_eq!(of(spec(json!({"memory": "64Mi"}), json!("16Mi"))), Medium::Memory(16 << 20));
    }

    #[test]
    fn huge_pages_are_those_that_containers_ask_for() {
        let of = |resources: serde_json::Value, kind: &str| {
            let pod = pod(json!({"containers": [{"name": "a", "resources": {"limits": resources}}],
                "volumes": [{"name": "v", "emptyDir": {"medium": kind}}]}));
            medium(&pod, &pod.volumes()[0], pod.volumes()[0].empty_dir.as_ref().unwrap(), 1 << 30)
        };
        let two = Medium::HugePages { page: 2 << 20, size: 4 << 20 };
        assert_eq!(of(json!({"hugepages-2Mi": "4Mi"}), "HugePages"), Ok(two.clone()));
        assert_eq!(of(json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}), "HugePages-2Mi"), Ok(two));
        assert!(
            of(json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}), "HugePages").unwrap_err().contains("multiple")
        );
        assert!(of(json!({}), "HugePages").unwrap_err().contains("no resource request"));
        assert!(of(json!({}), "HugePages-2Mi").is_err() && of(json!({}), "Tape").is_err());
    }

    #[test]
    fn an_empty_dir_is_for_everybody_and_mounted_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mounter = FakeMounter::default();
        make(&path, &Medium::Memory(1), None, false, &mounter).unwrap();
        make(&path, &Medium::Memory(1), None, false, &mounter).unwrap();
        assert_eq!(mounter.mounted.lock().len(), 1);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o777);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        make(&path, &Medium::Memory(1), None, true, &mounter).unwrap();
        assert_eq!(mode(), 0o700, "what a container has changed stays");
        make(&path, &Medium::Memory(1), None, false, &mounter).unwrap();
        assert_eq!(mode(), 0o777, "what was cut off is made whole");
    }
}
