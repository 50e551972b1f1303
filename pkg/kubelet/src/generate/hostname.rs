//! The host name and domain of a pod.

use k8s_openapi::api::core::v1::Pod;
use kedge_meta::names;

use crate::pod::PodExt;

/// The kernel's limit for a host name.
const MAX: usize = 63;

/// (host name, domain); the domain is empty without a sub-domain.
///
/// # Errors
/// A message about a name that is no DNS name.
pub(crate) fn host_and_domain(pod: &Pod, cluster_domain: &str) -> Result<(String, String), String> {
    let spec = PodExt::spec(pod);
    let given = |name: &Option<String>| name.clone().filter(|n| !n.is_empty());
    if let Some(name) = &spec.hostname_override {
        if !names::is_dns1123_subdomain(name).is_empty() {
            return Err(format!("pod HostnameOverride {name:?} is not a valid DNS subdomain"));
        }
        return Ok((truncated(name)?, String::new()));
    }
    let host = match given(&spec.hostname) {
        Some(name) if !names::is_dns1123_label(&name).is_empty() => {
            return Err(format!("pod Hostname {name:?} is not a valid DNS label"));
        }
        Some(name) => name,
        None => pod.name().to_string(),
    };
    let domain = match given(&spec.subdomain) {
        Some(name) if !names::is_dns1123_label(&name).is_empty() => {
            return Err(format!("pod Subdomain {name:?} is not a valid DNS label"));
        }
        Some(name) => format!("{name}.{}.svc.{cluster_domain}", pod.namespace()),
        None => String::new(),
    };
    Ok((truncated(&host)?, domain))
}

fn truncated(name: &str) -> Result<String, String> {
    if name.len() <= MAX {
        return Ok(name.to_string());
    }
    let short = name.get(..MAX).unwrap_or(name).trim_end_matches(['-', '.']);
    if short.is_empty() {
        return Err(format!("hostname for pod {name:?} was invalid: {name:?}"));
    }
    Ok(short.to_string())
}

/// The name to set in the kernel: with the domain where the pod asks for that.
///
/// # Errors
/// A message when the whole name is too long for the kernel.
pub(crate) fn kernel_hostname(pod: &Pod, host: &str, domain: &str) -> Result<String, String> {
    let whole = PodExt::spec(pod).set_hostname_as_fqdn == Some(true) && !domain.is_empty();
    if !whole {
        return Ok(host.to_string());
    }
    let name = format!("{host}.{domain}");
    if name.len() > MAX {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
             ({MAX} characters is the max, {} characters requested)",
            name.len()
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn names() {
        let plain = pod(json!({"containers": []}));
        assert_eq!(host_and_domain(&plain, "c.l").unwrap(), ("p".into(), String::new()));
        let spec = json!({"containers": [], "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true});
        let full = pod(spec);
        let (host, domain) = host_and_domain(&full, "c.l").unwrap();
        assert_eq!((host.as_str(), domain.as_str()), ("h", "s.ns.svc.c.l"));
        assert_eq!(kernel_hostname(&full, &host, &domain).unwrap(), "h.s.ns.svc.c.l");
        assert!(kernel_hostname(&full, &"h".repeat(63), &domain).is_err());
        assert_eq!(truncated(&format!("{}-x", "a".repeat(62))).unwrap(), "a".repeat(62));
    }
}
