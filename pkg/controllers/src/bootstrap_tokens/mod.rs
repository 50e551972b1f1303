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
    let only_tokens = ListParams::fields("type=bootstrap.kubernetes.io/token");
    let secrets: Informer<BootstrapSecret> =
        Informer::start_in(&ctx.client, &ctx.tasks, &resources::SECRETS, NAMESPACE, only_tokens);
    cleaner::start(ctx, &secrets);
    signer::start(ctx, &secrets);
}
