//! The `/etc/hosts` of a pod.

use k8s_openapi::api::core::v1::HostAlias;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HOST_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";
const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// The file's text. `node` is the node's own file for a pod in the node's network.
pub(crate) fn hosts_file(
    ips: &[String],
    host: &str,
    domain: &str,
    aliases: &[HostAlias],
    node: Option<&str>,
) -> String {
    let mut text = match node {
        Some(node) => format!("{HOST_HEADER}{node}"),
        None => {
            let mut text = format!("{HEADER}{LOCAL}");
            for ip in ips {
                match domain {
                    "" => text.push_str(&format!("{ip}\t{host}\n")),
                    _ => text.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n")),
                }
            }
            text
        }
    };
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.clone().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_address_and_aliases() {
        let alias = HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["a".into(), "b".into()]) };
        let text = hosts_file(&["10.0.0.1".into()], "h", "s.ns", &[alias], None);
        assert!(text.contains("10.0.0.1\th.s.ns\th\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
        let node = hosts_file(&[], "h", "", &[], Some("1.1.1.1 x\n"));
        assert_eq!(node, "# Kubernetes-managed hosts file (host network).\n1.1.1.1 x\n");
    }
}
