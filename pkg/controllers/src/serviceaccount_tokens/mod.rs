//! Secrets of type `kubernetes.io/service-account-token`: they are filled for the account that they name, and go with it.
//!
//! Invariant: a secret never keeps a token of another life of its account.

mod objects;
mod plan;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_client::{Change, DeleteOptions, Error, Informer, ListParams};
use kedge_meta::resources;
use serde_json::Value;
use tracing::debug;

use crate::context::Context;
use crate::objects::Meta;
pub use objects::{Account, TokenSecret};
use plan::{NAME, Needs, UID, claims, fill, without_reference};

const WORKERS: usize = 2;

/// Signs claims as a token; the key for that is with whoever gives this.
pub trait TokenSigner: Send + Sync {
    /// The token.
    ///
    /// # Errors
    /// When it cannot be signed.
    fn sign(&self, claims: &Value) -> Result<String, SignError>;
}

/// A token that could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a token: {0}")]
pub struct SignError(pub String);

/// What there is to look at: what may be gone is known by all that is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Account {
        namespace: String,
        name: String,
        uid: String,
    },
    Secret {
        namespace: String,
        name: String,
        uid: String,
        account: String,
        /// Empty in a secret that has not been filled yet.
        account_uid: String,
    },
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { namespace, name, .. } => write!(f, "account {namespace}/{name}"),
            Self::Secret { namespace, name, .. } => write!(f, "secret {namespace}/{name}"),
        }
    }
}

impl Key {
    fn of_account(change: &Change<Account>) -> Option<Self> {
        let metadata = &change.object()?.metadata;
        let (namespace, name, uid) = (metadata.namespace.clone(), metadata.name.clone(), metadata.uid.clone());
        Some(Self::Account { namespace, name, uid })
    }

    fn of_secret(change: &Change<TokenSecret>) -> Option<Self> {
        let metadata = &change.object()?.metadata;
        let annotation = |key: &str| metadata.annotations.get(key).unwrap_or_default().to_owned();
        let account = annotation(NAME);
        (!account.is_empty()).then(|| Self::Secret {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            account,
            account_uid: annotation(UID),
        })
    }
}

struct Controller {
    ctx: Context,
    accounts: Informer<Account>,
    secrets: Informer<TokenSecret>,
    signer: Arc<dyn TokenSigner>,
    /// In base64.
    root_ca: String,
}

/// What the controller reads, and others do.
pub fn informers(ctx: &Context) -> (Informer<Account>, Informer<TokenSecret>) {
    let only_tokens = ListParams::fields("type=kubernetes.io/service-account-token");
    let secrets = Informer::start(&ctx.client, &ctx.tasks, &resources::SECRETS, only_tokens);
    (ctx.informer(&resources::SERVICE_ACCOUNTS), secrets)
}

/// Starts the controller, which publishes `root_ca` with the tokens.
pub fn start(
    ctx: &Context,
    accounts: &Informer<Account>,
    secrets: &Informer<TokenSecret>,
    root_ca: &str,
    signer: Arc<dyn TokenSigner>,
) {
    let (accounts, secrets) = (accounts.clone(), secrets.clone());
    let queue = ctx.queue();
    let q = queue.clone();
    accounts.on_change(move |change| Key::of_account(change).into_iter().for_each(|key| q.add(key)));
    let q = queue.clone();
    secrets.on_change(move |change| Key::of_secret(change).into_iter().for_each(|key| q.add(key)));
    let root_ca = STANDARD.encode(root_ca);
    let controller = Arc::new(Controller { ctx: ctx.clone(), accounts, secrets, signer, root_ca });
    let c = controller.clone();
    let synced = async move {
        c.accounts.synced().await;
        c.secrets.synced().await;
    };
    ctx.work(
        "serviceaccount-tokens",
        &queue,
        WORKERS,
        synced,
        controller,
        |c, key| async move { c.reconcile(key).await },
    );
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        match key {
            Key::Account { namespace, name, uid } => self.account(&namespace, &name, &uid).await,
            Key::Secret { namespace, name, uid, account, account_uid } => {
                let secret = self.secrets.get(&namespace, &name).filter(|secret| secret.metadata.uid == uid);
                match secret {
                    None => self.forget(&namespace, &name, &account, &account_uid).await,
                    Some(secret) => self.secret(&secret, &account, &account_uid).await,
                }
            }
        }
    }

    /// The tokens of an account that is gone go.
    async fn account(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
        if self.known(namespace, name, uid).is_some() {
            return Ok(());
        }
        for secret in self.secrets.list_namespace(namespace) {
            if secret.is_for(name, uid) {
                self.delete(&secret).await?;
            }
        }
        Ok(())
    }

    /// An account as the cache has it; `uid` may be empty.
    fn known(&self, namespace: &str, name: &str, uid: &str) -> Option<Arc<Account>> {
        let account = self.accounts.get(namespace, name)?;
        (uid.is_empty() || account.metadata.uid == uid).then_some(account)
    }

    async fn secret(&self, secret: &TokenSecret, account: &str, account_uid: &str) -> Result<(), Error> {
        let namespace = &secret.metadata.namespace;
        let found = match self.known(namespace, account, account_uid) {
            Some(found) => Some(found),
            // Deleting it is for ever: first it is made sure.
            None => match self.ctx.client.get::<Account>(&resources::SERVICE_ACCOUNTS, namespace, account).await {
                Ok(found) => Some(Arc::new(found)).filter(|a| account_uid.is_empty() || a.metadata.uid == account_uid),
                Err(err) if err.is_not_found() => None,
                Err(err) => return Err(err),
            },
        };
        match found {
            None => self.delete(secret).await,
            Some(account) => self.fill(secret, &account).await,
        }
    }

    async fn delete(&self, secret: &TokenSecret) -> Result<(), Error> {
        let metadata = &secret.metadata;
        debug!(namespace = metadata.namespace, name = metadata.name, "the account of a token is gone");
        let options = DeleteOptions::with_uid(&metadata.uid);
        match self.ctx.client.delete(&resources::SECRETS, &metadata.namespace, &metadata.name, &options).await {
            // It is gone, or another one.
            Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
            other => other,
        }
    }

    async fn fill(&self, cached: &TokenSecret, account: &Account) -> Result<(), Error> {
        let needs = Needs::of(cached, &self.root_ca);
        if !needs.anything() {
            return Ok(());
        }
        let (client, metadata) = (&self.ctx.client, &cached.metadata);
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        let mut live: Value = match client.get(&resources::SECRETS, namespace, name).await {
            Err(err) if err.is_not_found() => return Ok(()),
            live => live?,
        };
        // Of what has changed since an event will tell.
        if live["metadata"]["resourceVersion"] != *metadata.resource_version {
            return Ok(());
        }
        let token = if needs.token {
            let signed = self.signer.sign(&claims(account, name));
            Some(signed.map_err(|err| Error::Request(err.to_string()))?)
        } else {
            None
        };
        fill(&mut live, &needs, &self.root_ca, token.as_deref(), account);
        match client.update::<Meta>(&resources::SECRETS, namespace, name, &live).await {
            Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
            other => other.map(drop),
        }
    }

    /// An account does not name a secret that is gone.
    async fn forget(&self, namespace: &str, secret: &str, account: &str, account_uid: &str) -> Result<(), Error> {
        if self.known(namespace, account, account_uid).is_none_or(|account| !account.names(secret)) {
            return Ok(());
        }
        let client = &self.ctx.client;
        let live: Value = match client.get(&resources::SERVICE_ACCOUNTS, namespace, account).await {
            Err(err) if err.is_not_found() => return Ok(()),
            live => live?,
        };
        if !account_uid.is_empty() && live["metadata"]["uid"] != *account_uid {
            return Ok(());
        }
        let Some(changed) = without_reference(live, secret) else { return Ok(()) };
        match client.update::<Meta>(&resources::SERVICE_ACCOUNTS, namespace, account, &changed).await {
            Err(err) if err.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}
