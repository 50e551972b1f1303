//! Credentials: kubeconfig files, and the tokens of service accounts, of which only those that were issued are taken.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use kedge_auth::{Bindings, BoundObject, BoundStores, TokenError, TokenSigner};
use kedge_client::ClusterAccess;
use kedge_kv::Embedded;
use kedge_registry::Registry;
use kedge_storage::Storage;

use crate::input;

/// A kubeconfig. What it names on disk is not there.
pub fn kubeconfig(data: &[u8]) {
    let path = Path::new("/nonexistent/config");
    let read = ClusterAccess::from_text(data, path);
    assert_eq!(read.is_ok(), ClusterAccess::from_text(data, path).is_ok());
    if let Ok(access) = read {
        // What makes no sense in it is an error of its own.
        let _unusable = access.tls_config();
    }
}

struct Issued {
    signer: TokenSigner,
    token: String,
}

/// One signer and a token of it that nobody has any more: its account is not in the store.
static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let clock = kedge_base::system_clock();
    let kv = Arc::new(Embedded::memory(clock.clone()).expect("a store in memory opens"));
    let configs = Registry::storage_configs();
    let storage = runtime.block_on(Storage::open(kv, &configs, Arc::default(), clock)).expect("an empty store is read");
    let storage = Arc::new(storage);
    let store = |prefix: &str| storage.resource(prefix).expect("every resource has a store");
    let dir = tempfile::tempdir().expect("a directory is made");
    let pki = kedge_certs::Pki::open(dir.path(), time::OffsetDateTime::UNIX_EPOCH).expect("keys are made");
    let bound = BoundStores { pods: store("pods"), secrets: store("secrets"), nodes: store("minions") };
    let signer = TokenSigner::new(&pki.service_account_key, "issuer", store("serviceaccounts"), bound);
    let signer = signer.expect("the key can be used");
    let account = BoundObject { name: "a".into(), uid: "u".into() };
    let bindings = Bindings { namespace: "n".into(), serviceaccount: account, ..Bindings::default() };
    let token = signer.issue(bindings, Vec::new(), 0, 100).expect("a token is signed");
    Issued { signer, token }
});

/// Bytes that are laid over a good token: place, then what stands there. No other token than the good one has a good signature.
pub fn token(data: &[u8]) {
    let Issued { signer, token } = &*ISSUED;
    let Some((at, patch)) = data.split_first_chunk::<2>() else { return };
    let at = usize::from(u16::from_le_bytes(*at)) % token.len();
    let mut changed = token.clone().into_bytes();
    for (slot, byte) in changed[at..].iter_mut().zip(patch) {
        *slot = *byte;
    }
    let Ok(changed) = String::from_utf8(changed) else { return };
    for (text, is_good) in [(changed.as_str(), changed == *token), (input::text(data).unwrap_or_default(), false)] {
        match signer.verify(text, &[], 1) {
            // Its account is not there, which is asked last.
            Err(TokenError::Unbound(_)) => assert!(is_good, "a token that nobody issued has a good signature"),
            refused => assert!(
                !is_good && matches!(refused, Err(TokenError::Malformed | TokenError::NoKey | TokenError::Signature)),
                "{refused:?}"
            ),
        }
    }
}
