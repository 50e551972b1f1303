//! Bootstrap tokens, secrets of type `bootstrap.kubernetes.io/token` in `kube-system`: they are deleted at their end, and sign what
//! is said of the cluster to those who do not trust it yet.

mod cleaner;
mod secret;
mod signer;

use kedge_client::{Informer, ListParams};
use kedge_meta::resources;

use crate::context::Context;
use secret::BootstrapSecret;

const NAMESPACE: &str = "kube-system";

/// Starts both controllers.
pub fn start(ctx: &Context) {
    let [cleans, signs] = ["token-cleaner-controller", "bootstrap-signer-controller"].map(|name| ctx.runs(name));
    if !cleans && !signs {
        return;
    }
    let only_tokens = ListParams::fields("type=bootstrap.kubernetes.io/token");
    let secrets: Informer<BootstrapSecret> =
        Informer::start_in(&ctx.client, &ctx.tasks, &resources::SECRETS, NAMESPACE, only_tokens);
    if cleans {
        cleaner::start(ctx, &secrets);
    }
    if signs {
        signer::start(ctx, &secrets);
    }
}
