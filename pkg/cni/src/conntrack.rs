//! UDP flows through host ports: the kernel remembers where they went, also when nobody is there any more.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::conf::PortMapping;

const LIMIT: Duration = Duration::from_secs(10);

/// Has the kernel forget the flows to ports that have come to another pod, or to none. Senders that keep their port would
/// otherwise go on to reach whoever had it before. Without the program nothing is forgotten, and flows end by themselves
/// after half a minute of silence.
pub async fn forget<'a>(ports: impl IntoIterator<Item = &'a PortMapping>) {
    for arguments in ports.into_iter().filter_map(arguments) {
        let mut command = Command::new("conntrack");
        command.args(&arguments).kill_on_drop(true).stdin(Stdio::null());
        match kedge_base::time::timeout(LIMIT, command.output()).await {
            Err(_) => tracing::warn!(?arguments, "conntrack did not finish in time"),
            Ok(Err(err)) => {
                tracing::info!(error = %err, "no flows of host ports are forgotten");
                return;
            }
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                // Finding nothing to delete is reported as a failure.
                if !output.status.success() && !said.contains("0 flow entries") {
                    tracing::warn!(?arguments, said = said.trim(), "conntrack refused");
                }
            }
        }
    }
}

/// Of TCP a new connection is a new flow.
fn arguments(port: &PortMapping) -> Option<Vec<String>> {
    if port.protocol != "udp" {
        return None;
    }
    let mut arguments: Vec<String> = ["-D", "-p", "udp", "--orig-port-dst"].map(str::to_owned).to_vec();
    arguments.push(port.host_port.to_string());
    if let Some(address) = port.address() {
        arguments.extend(["--orig-dst".to_owned(), address.to_string()]);
    }
    Some(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_udp_are_named_by_port_and_address() {
        let port = |protocol: &str, host_ip: &str| PortMapping {
            host_port: 53,
            container_port: 5353,
            protocol: protocol.to_owned(),
            host_ip: host_ip.to_owned(),
        };
        let text = |port: PortMapping| arguments(&port).map(|arguments| arguments.join(" "));
        assert_eq!(text(port("udp", "")).as_deref(), Some("-D -p udp --orig-port-dst 53"));
        assert_eq!(text(port("udp", "10.0.0.1")).as_deref(), Some("-D -p udp --orig-port-dst 53 --orig-dst 10.0.0.1"));
        assert_eq!(text(port("tcp", "")), None);
    }
}
