//! The resolver configuration of a pod, by its DNS policy.

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};
use kedge_cri::v1::DnsConfig;

use crate::pod::PodExt;

/// The resolver's own limits.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// The node's resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostDns {
    pub(crate) servers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl HostDns {
    /// Reads the text of a `resolv.conf`.
    pub(crate) fn parse(text: &str) -> HostDns {
        let mut dns = HostDns::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => dns.servers.extend(words.next().map(str::to_string)),
                // The last line of these counts.
                Some("search") => {
                    dns.searches = words.map(|w| w.trim_end_matches('.').to_string()).collect();
                }
                Some("options") => dns.options.extend(words.map(str::to_string)),
                _ => {}
            }
        }
        dns.searches.retain(|s| !s.is_empty());
        dns
    }
}

fn cluster_searches(pod: &Pod, domain: &str, host: &HostDns) -> Vec<String> {
    let mut all = Vec::new();
    if !domain.is_empty() {
        all.push(format!("{}.svc.{domain}", pod.namespace()));
        all.push(format!("svc.{domain}"));
        all.push(domain.to_string());
    }
    all.extend(host.searches.iter().cloned());
    unique(all)
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

/// Which of the three the pod gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cluster,
    Host,
    None,
}

fn kind(pod: &Pod) -> Kind {
    match PodExt::spec(pod).dns_policy.as_deref() {
        Some("None") => Kind::None,
        Some("ClusterFirstWithHostNet") => Kind::Cluster,
        Some("Default") => Kind::Host,
        _ if pod.host_network() => Kind::Host,
        _ => Kind::Cluster,
    }
}

/// The configuration, and a warning for the pod's events where something had to give.
pub(crate) fn pod_dns(pod: &Pod, servers: &[String], domain: &str, host: &HostDns) -> (DnsConfig, Option<String>) {
    let mut warning = None;
    let mut kind = kind(pod);
    if kind == Kind::Cluster && servers.is_empty() {
        let policy = PodExt::spec(pod).dns_policy.clone().unwrap_or_else(|| "ClusterFirst".into());
        warning = Some(format!(
            "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using {policy:?} \
             policy. Falling back to \"Default\" policy.",
            pod.display()
        ));
        kind = Kind::Host;
    }
    let mut dns = match kind {
        Kind::Cluster => DnsConfig {
            servers: servers.to_vec(),
            searches: cluster_searches(pod, domain, host),
            options: vec!["ndots:5".to_string()],
        },
        Kind::Host => {
            DnsConfig { servers: host.servers.clone(), searches: host.searches.clone(), options: host.options.clone() }
        }
        Kind::None => DnsConfig::default(),
    };
    if let Some(own) = &PodExt::spec(pod).dns_config {
        append(&mut dns, own);
    }
    let cut = limit(&mut dns);
    (dns, warning.or(cut))
}

fn append(dns: &mut DnsConfig, own: &PodDNSConfig) {
    dns.servers.extend(own.nameservers.iter().flatten().cloned());
    dns.servers = unique(std::mem::take(&mut dns.servers));
    dns.searches.extend(own.searches.iter().flatten().cloned());
    dns.searches = unique(std::mem::take(&mut dns.searches));
    for option in own.options.iter().flatten() {
        let name = option.name.clone().unwrap_or_default();
        dns.options.retain(|o| o.split(':').next() != Some(name.as_str()));
        match &option.value {
            Some(value) if !value.is_empty() => dns.options.push(format!("{name}:{value}")),
            _ => dns.options.push(name),
        }
    }
}

fn limit(dns: &mut DnsConfig) -> Option<String> {
    let mut warning = None;
    if dns.servers.len() > MAX_SERVERS {
        dns.servers.truncate(MAX_SERVERS);
        warning = Some(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        ));
    }
    let mut chars = 0;
    let fits = dns.searches.iter().take(MAX_SEARCHES).take_while(|s| {
        chars += s.len() + 1;
        chars <= MAX_SEARCH_CHARS + 1
    });
    let count = fits.count();
    if count < dns.searches.len() {
        dns.searches.truncate(count);
        warning = Some(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        ));
    }
    warning
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::{Value, json};

    fn of(spec: Value) -> DnsConfig {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let host = HostDns::parse("nameserver 9.9.9.9\nsearch lan.\noptions edns0 # x\n");
        pod_dns(&pod(spec), &["10.43.0.10".to_string()], "cluster.local", &host).0
    }

    #[test]
    fn policies() {
        let cluster = of(json!({}));
        assert_eq!(cluster.servers, ["10.43.0.10"]);
        assert_eq!(cluster.searches, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"]);
        assert_eq!(cluster.options, ["ndots:5"]);
        let host = of(json!({"hostNetwork": true}));
        assert_eq!((host.servers, host.options), (vec!["9.9.9.9".into()], vec!["edns0".into()]));
        assert_eq!(of(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})).options, ["ndots:5"]);
        let own = of(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "x"}]}}));
        assert_eq!((own.servers, own.options), (vec!["1.1.1.1".into()], vec!["ndots:2".into(), "x".into()]));
        let merged = of(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}));
        assert_eq!(merged.options, ["ndots:2"]);
    }

    #[test]
    fn too_many_servers_are_cut_with_a_warning() {
        let spec = json!({"containers": [], "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]}});
        let (dns, warning) = pod_dns(&pod(spec), &[], "", &HostDns::default());
        assert_eq!(dns.servers.len(), 3);
        assert!(warning.is_some());
    }
}
