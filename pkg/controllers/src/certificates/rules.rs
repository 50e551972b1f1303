//! What each of the built-in signers stands for, in upstream's words.

use std::collections::BTreeSet;

use kedge_certs::SigningRequest;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub(super) const LEGACY: &str = "kubernetes.io/legacy-unknown";

const NODE: &str = "system:node:";

/// Why a signer does not sign a request.
pub(super) fn check(signer: &str, request: &SigningRequest, usages: &[String]) -> Result<(), String> {
    match signer {
        CLIENT => client_usages(usages),
        KUBELET_CLIENT => kubelet_client(request, usages),
        KUBELET_SERVING => kubelet_serving(request, usages),
        // Whatever was asked for under no name.
        LEGACY => Ok(()),
        other => Err(format!("unrecognized signerName: {other:?}")),
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let allowed = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".into());
    }
    Ok(())
}

/// The certificate by which a node comes to the API server.
pub(super) fn kubelet_client(request: &SigningRequest, usages: &[String]) -> Result<(), String> {
    of_nodes(request)?;
    let refused = [
        (request.dns_names.len(), "DNS subjectAltNames are not allowed"),
        (request.email_addresses.len(), "Email subjectAltNames are not allowed"),
        (request.ip_addresses.len(), "IP subjectAltNames are not allowed"),
        (request.uris.len(), "URI subjectAltNames are not allowed"),
    ];
    if let Some((_, why)) = refused.iter().find(|(names, _)| *names > 0) {
        return Err((*why).to_owned());
    }
    of_a_node(request)?;
    exactly(usages, "client auth", ["client auth", "digital signature", "key encipherment"])
}

/// The certificate with which a node serves.
fn kubelet_serving(request: &SigningRequest, usages: &[String]) -> Result<(), String> {
    of_nodes(request)?;
    if request.dns_names.is_empty() && request.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if !request.email_addresses.is_empty() {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if !request.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed".into());
    }
    exactly(usages, "server auth", ["digital signature", "key encipherment", "server auth"])?;
    of_a_node(request)
}

fn of_nodes(request: &SigningRequest) -> Result<(), String> {
    let right = request.subject.organization == ["system:nodes"];
    right.then_some(()).ok_or_else(|| "subject organization is not system:nodes".into())
}

fn of_a_node(request: &SigningRequest) -> Result<(), String> {
    let right = request.subject.common_name.starts_with(NODE);
    right.then_some(()).ok_or_else(|| "subject common name does not begin with system:node:".into())
}

/// Either all of them, or those of a key that encrypts nothing.
fn exactly(usages: &[String], purpose: &str, all: [&str; 3]) -> Result<(), String> {
    let set: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    if set == BTreeSet::from(all) || set == BTreeSet::from(["digital signature", purpose]) {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", all.join(" ")))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A request of a node, and for these names.
    pub(in super::super) fn request(organizations: &[&str], name: &str, names: &[&str]) -> SigningRequest {
        let text = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let of = |test: fn(&str) -> bool| names.iter().filter(|name| test(name)).copied().collect::<Vec<_>>();
        let mut request = SigningRequest::new(Vec::new());
        request.subject.organization = text(organizations);
        request.subject.common_name = name.to_owned();
        request.ip_addresses = of(|name| name.starts_with("10.")).iter().map(|ip| ip.parse().unwrap()).collect();
        request.uris = text(&of(|name| name.contains("://")));
        request.email_addresses = text(&of(|name| name.contains('@')));
        request.dns_names = text(&of(|name| name.ends_with(".example")));
        request
    }

    fn said(signer: &str, request: &SigningRequest, usages: &str) -> String {
        let usages: Vec<String> = usages.split(',').map(str::to_owned).collect();
        check(signer, request, &usages).err().unwrap_or_default()
    }

    #[test]
    fn a_client_of_the_api_server() {
        let any = request(&[], "anybody", &[]);
        assert_eq!(said(CLIENT, &any, "client auth"), "");
        assert_eq!(said(CLIENT, &any, "client auth,digital signature,key encipherment"), "");
        assert_eq!(said(CLIENT, &any, "client auth,server auth"), "invalid usage for client certificate: server auth");
        let missing = "missing required usage for client certificate: client auth";
        assert_eq!(said(CLIENT, &any, "digital signature"), missing);
    }

    #[test]
    fn a_node_that_comes_to_the_api_server() {
        let usages = "client auth,digital signature,key encipherment";
        let of = |organizations: &[&str], name: &str, names: &[&str]| {
            said(KUBELET_CLIENT, &request(organizations, name, names), usages)
        };
        let nodes = &["system:nodes"][..];
        assert_eq!(of(nodes, "system:node:a", &[]), "");
        assert_eq!(of(&["system:nodes", "b"], "system:node:a", &[]), "subject organization is not system:nodes");
        assert_eq!(of(nodes, "a", &[]), "subject common name does not begin with system:node:");
        assert_eq!(of(nodes, "system:node:a", &["a.example"]), "DNS subjectAltNames are not allowed");
        assert_eq!(of(nodes, "system:node:a", &["a@b"]), "Email subjectAltNames are not allowed");
        assert_eq!(of(nodes, "system:node:a", &["10.0.0.1"]), "IP subjectAltNames are not allowed");
        assert_eq!(of(nodes, "system:node:a", &["a://b"]), "URI subjectAltNames are not allowed");
        let node = request(nodes, "system:node:a", &[]);
        assert_eq!(said(KUBELET_CLIENT, &node, "digital signature,client auth"), "");
        let wrong = "usages did not match [client auth digital signature key encipherment]";
        assert_eq!(said(KUBELET_CLIENT, &node, "client auth"), wrong);
        assert_eq!(said(KUBELET_CLIENT, &node, "client auth,server auth,digital signature"), wrong);
    }

    #[test]
    fn a_node_that_serves() {
        let usages = "server auth,digital signature,key encipherment";
        let of = |organizations: &[&str], name: &str, names: &[&str]| {
            said(KUBELET_SERVING, &request(organizations, name, names), usages)
        };
        let nodes = &["system:nodes"][..];
        assert_eq!(of(nodes, "system:node:a", &["a.example", "10.0.0.1"]), "");
        assert_eq!(of(nodes, "system:node:a", &[]), "DNS or IP subjectAltName is required");
        assert_eq!(of(nodes, "system:node:a", &["a.example", "a@b"]), "Email subjectAltNames are not allowed");
        assert_eq!(of(nodes, "system:node:a", &["a.example", "a://b"]), "URI subjectAltNames are not allowed");
        assert_eq!(of(&[], "system:node:a", &["a.example"]), "subject organization is not system:nodes");
        let node = request(nodes, "b", &["a.example"]);
        let wrong = "usages did not match [digital signature key encipherment server auth]";
        assert_eq!(said(KUBELET_SERVING, &node, "client auth"), wrong, "which upstream says first here");
        assert_eq!(of(nodes, "b", &["a.example"]), "subject common name does not begin with system:node:");
    }

    #[test]
    fn others_are_nobodys_business_and_the_legacy_is_everything() {
        let any = request(&[], "anybody", &["a.example"]);
        assert_eq!(said(LEGACY, &any, "cert sign"), "");
        assert_eq!(said("kubernetes.io/other", &any, "any"), "unrecognized signerName: \"kubernetes.io/other\"");
    }
}
