//! The users that ask: people, nodes and parts of the control plane, of which each has a letter in a row, and the controllers.

/// How somebody shows who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// Nothing.
    Nothing,
    /// A token that nobody issued.
    Lie,
    /// The certificate that the cluster signed for the name and the groups.
    Certificate,
    /// The token of a service account of kube-system.
    Token,
    /// The administrator's certificate, and that this one is meant.
    Impersonated,
    /// The certificate of the kubeconfig.
    Administrator,
}

/// Somebody who asks.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    /// The name of the column.
    pub column: &'static str,
    pub user: &'static str,
    /// Without those that everybody has who is authenticated.
    pub groups: &'static [&'static str],
    pub shows: Shows,
}

const fn person(column: &'static str, user: &'static str, groups: &'static [&'static str]) -> Who {
    Who { column, user, groups, shows: Shows::Certificate }
}

const NODES: &[&str] = &["system:nodes"];

/// Those that have a letter in each row, in this order.
pub const PEOPLE: [Who; 18] = [
    Who { column: "no credentials", user: "system:anonymous", groups: &[], shows: Shows::Nothing },
    Who { column: "bad token", user: "", groups: &[], shows: Shows::Lie },
    Who { column: "system:anonymous", user: "system:anonymous", groups: &[], shows: Shows::Impersonated },
    person("stranger", "matrix-stranger", &[]),
    person("view in a", "matrix-viewer", &[]),
    person("edit in a", "matrix-editor", &[]),
    person("admin in a", "matrix-admin", &[]),
    person("aggregated reader", "matrix-reader", &[]),
    person("cluster-admin", "matrix-cluster-admin", &[]),
    Who { column: "system:masters", user: "matrix-master", groups: &["system:masters"], shows: Shows::Administrator },
    person("node n1", "system:node:matrix-n1", NODES),
    person("node n2", "system:node:matrix-n2", NODES),
    person("no node", "matrix-no-node", NODES),
    person("scheduler", "system:kube-scheduler", &[]),
    person("service proxy", "system:kube-proxy", &[]),
    person("monitoring", "matrix-monitor", &["system:monitoring"]),
    person("bootstrapper", "system:bootstrap:matrix", &["system:bootstrappers", "system:bootstrappers:matrix"]),
    Who { column: "DNS", user: "kube-dns", groups: &[], shows: Shows::Token },
];

/// The service accounts of the control plane; each is an account of kube-system.
pub const CONTROLLERS: [&str; 42] = [
    "attachdetach-controller",
    "bootstrap-signer",
    "certificate-controller",
    "cloud-provider",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "device-taint-eviction-controller",
    "disruption-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "ephemeral-volume-controller",
    "expand-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "leader-election-controller",
    "legacy-service-account-token-cleaner",
    "namespace-controller",
    "node-controller",
    "persistent-volume-binder",
    "pod-garbage-collector",
    "pv-protection-controller",
    "pvc-protection-controller",
    "replicaset-controller",
    "replication-controller",
    "resource-claim-controller",
    "resourcequota-controller",
    "root-ca-cert-publisher",
    "route-controller",
    "selinux-warning-controller",
    "service-account-controller",
    "service-cidrs-controller",
    "service-controller",
    "statefulset-controller",
    "token-cleaner",
    "ttl-after-finished-controller",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
    "volumeattributesclass-protection-controller",
];

/// Everybody, people first.
pub fn all() -> Vec<Who> {
    let controllers =
        CONTROLLERS.map(|account| Who { column: account, user: account, groups: &[], shows: Shows::Token });
    PEOPLE.into_iter().chain(controllers).collect()
}

impl Who {
    /// The user and the groups that the server finds.
    pub fn identity(&self) -> (String, Vec<String>) {
        let own = self.groups.iter().map(|group| (*group).to_owned());
        match self.shows {
            Shows::Nothing | Shows::Lie | Shows::Impersonated => {
                (self.user.to_owned(), vec!["system:unauthenticated".to_owned()])
            }
            Shows::Token => {
                let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
                (format!("system:serviceaccount:kube-system:{}", self.user), groups.map(str::to_owned).to_vec())
            }
            Shows::Certificate | Shows::Administrator => {
                (self.user.to_owned(), own.chain(["system:authenticated".to_owned()]).collect())
            }
        }
    }
}
