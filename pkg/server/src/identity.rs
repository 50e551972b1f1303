//! One identity for all servers of a cluster: authorities, token key and encryption keys, kept in the shared store.
//!
//! They are sealed with a key that is derived from the cluster's token, as k3s does it: who can read the store cannot
//! sign for the cluster. A server that comes later needs the same token. On the embedded store nothing is kept there:
//! nobody else uses it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_base::random;
use kedge_certs::{Pki, shared, write_atomically};
use kedge_kv::{Compare, Event, Kv, Observer, Op, Snapshot, Txn};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tracing::info;

use crate::error::Error;
use crate::token::{Token, private_dir};

/// Where the identity is.
pub(crate) const KEY: &str = "/kedge/identity";
/// Rounds of the derivation: slow enough for short tokens, fast enough for a board.
const ITERATIONS: u32 = 100_000;

/// What is in the store.
#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    iterations: u32,
    salt: String,
    nonce: String,
    data: String,
}

/// What is sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// By file name.
    pub(crate) certificates: BTreeMap<String, String>,
    /// The encryption configuration, when secrets are encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<String>,
}

/// The authorities of the cluster and the revision of what the store has of them: those in the store, or, if there are none yet, this server's own, which are put there.
pub(crate) async fn share(
    kv: &dyn Kv,
    tls_dir: &Path,
    token: &Token,
    encryption: impl FnOnce() -> Result<Option<String>, Error>,
    now: OffsetDateTime,
) -> Result<(Pki, Identity, u64), Error> {
    let offered = tls_dir.join(OFFERED);
    if let Some((identity, revision)) = load(kv, token).await? {
        return Ok((take(tls_dir, &identity, now)?, identity, revision));
    }
    if !tls_dir.join("server-ca.crt").exists() {
        private_dir(tls_dir)?;
        write_atomically(&offered, b"", 0o600)?;
    }
    let pki = Pki::open(tls_dir, now)?;
    let own = Identity { certificates: shared::export(tls_dir)?, encryption: encryption()? };
    if let Some(revision) = store(kv, token, &own, 0).await? {
        accepted(&offered)?;
        return Ok((pki, own, revision));
    }
    // Another server was faster.
    let Some((identity, revision)) = load(kv, token).await? else {
        return Err(Error::Identity("it was removed while this server started".into()));
    };
    Ok((take(tls_dir, &identity, now)?, identity, revision))
}

/// Is there while the authorities of a directory were made for a store that has not taken them yet: another server's may
/// be there first, also when this one was cut off or never heard what came of it. Nobody has used them then.
const OFFERED: &str = "offered";

/// Makes the authorities of the store those of the directory.
pub(crate) fn take(tls_dir: &Path, identity: &Identity, now: OffsetDateTime) -> Result<Pki, Error> {
    let offered = tls_dir.join(OFFERED);
    if offered.exists() {
        shared::forget(tls_dir)?;
    }
    if shared::import(tls_dir, &identity.certificates, now)? {
        info!(dir = %tls_dir.display(), "the cluster has other authorities, which this server uses now; those before are copied beside them");
    }
    accepted(&offered)?;
    Ok(Pki::open(tls_dir, now)?)
}

fn accepted(offered: &Path) -> Result<(), Error> {
    match std::fs::remove_file(offered) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove", path: offered.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Whether there is one in the store.
pub(crate) async fn is_there(kv: &dyn Kv) -> Result<bool, Error> {
    Ok(kv.get(KEY.as_bytes()).await?.is_some())
}

/// An identity as it is in a store.
pub(crate) async fn sealed(identity: &Identity, token: &Token) -> Result<Vec<u8>, Error> {
    let (identity, token) = (identity.clone(), token.clone());
    blocking(move || seal(&identity, &token)).await
}

/// The identity in the store and its revision.
pub(crate) async fn load(kv: &dyn Kv, token: &Token) -> Result<Option<(Identity, u64)>, Error> {
    let Some(found) = kv.get(KEY.as_bytes()).await? else { return Ok(None) };
    let (value, token) = (found.value, token.clone());
    let identity = blocking(move || open(&value, &token)).await?;
    Ok(Some((identity, found.mod_revision)))
}

/// Replaces the identity whose revision is `revision` (0: there is none). Returns its new revision; none when it was changed
/// since.
pub(crate) async fn store(
    kv: &dyn Kv,
    token: &Token,
    identity: &Identity,
    revision: u64,
) -> Result<Option<u64>, Error> {
    let sealed = sealed(identity, token).await?;
    let txn = Txn {
        compare: vec![Compare::mod_revision(KEY, revision)],
        success: vec![Op::Put { key: KEY.into(), value: sealed.into(), lease: 0 }],
        ..Txn::default()
    };
    let result = kv.txn(txn).await?;
    Ok(result.succeeded.then_some(result.revision))
}

/// Deriving a key takes a board's core for a good part of a second; other tasks must not wait for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = kedge_base::blocking::unbounded("derive a key", work).await;
    done.map_err(|e| Error::Identity(format!("its key could not be derived: {e}")))?
}

/// Tells when the identity is written.
pub(crate) struct Changes(Arc<Notify>);

impl Changes {
    pub(crate) async fn observe(kv: &dyn Kv) -> Result<Self, Error> {
        let notify = Arc::new(Notify::new());
        kv.observe(KEY.as_bytes(), Arc::new(Signal(notify.clone()))).await?;
        Ok(Self(notify))
    }

    /// Completes after a change since the last call.
    pub(crate) async fn next(&self) {
        self.0.notified().await;
    }
}

struct Signal(Arc<Notify>);

impl Observer for Signal {
    fn committed(&self, _events: &[Event]) {
        self.0.notify_one();
    }

    fn reset(&self, _state: Snapshot) {
        self.0.notify_one();
    }
}

fn derive(token: &Token, salt: &[u8], iterations: u32) -> Result<LessSafeKey, Error> {
    let rounds = NonZeroU32::new(iterations).filter(|n| n.get() <= 10_000_000);
    let rounds = rounds.ok_or_else(|| damaged("its number of rounds"))?;
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, token.password().as_bytes(), &mut key);
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| damaged("its key"))?;
    Ok(LessSafeKey::new(key))
}

fn damaged(what: &str) -> Error {
    Error::Identity(format!("{what} cannot be used"))
}

fn seal(identity: &Identity, token: &Token) -> Result<Vec<u8>, Error> {
    let (salt, nonce): ([u8; 16], [u8; NONCE_LEN]) = (random::bytes(), random::bytes());
    let key = derive(token, &salt, ITERATIONS)?;
    let encode = |e: serde_json::Error| Error::Identity(e.to_string());
    let mut data = serde_json::to_vec(identity).map_err(encode)?;
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(KEY), &mut data)
        .map_err(|_| damaged("its content"))?;
    let sealed = Sealed {
        version: 1,
        iterations: ITERATIONS,
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce),
        data: STANDARD.encode(data),
    };
    serde_json::to_vec(&sealed).map_err(encode)
}

fn open(stored: &[u8], token: &Token) -> Result<Identity, Error> {
    let sealed: Sealed = serde_json::from_slice(stored).map_err(|e| Error::Identity(e.to_string()))?;
    if sealed.version != 1 {
        return Err(Error::Identity(format!("its version {} is newer than this program", sealed.version)));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| damaged("its encoding"));
    let (salt, nonce, mut data) = (decode(&sealed.salt)?, decode(&sealed.nonce)?, decode(&sealed.data)?);
    let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| damaged("its nonce"))?;
    let key = derive(token, &salt, sealed.iterations)?;
    let plain = key.open_in_place(nonce, Aad::from(KEY), &mut data).map_err(|_| Error::WrongToken)?;
    serde_json::from_slice(plain).map_err(|e| Error::Identity(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_token_opens_the_identity() {
        let certificates = BTreeMap::from([("server-ca.key".to_owned(), "geheim".to_owned())]);
        let identity = Identity { certificates, encryption: None };
        let token = Token::parse("a-token").unwrap();
        let sealed = seal(&identity, &token).unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("geheim"));
        assert_eq!(open(&sealed, &token).unwrap(), identity);
        assert!(matches!(open(&sealed, &Token::parse("another").unwrap()), Err(Error::WrongToken)));
    }

    #[tokio::test]
    async fn the_first_server_gives_the_identity_and_the_next_takes_it() {
        let kv = kedge_kv::Embedded::memory(kedge_base::system_clock()).unwrap();
        let token = Token::parse("a-token").unwrap();
        let now = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_, first, _) = share(&kv, one.path(), &token, || Ok(Some("{}".into())), now).await.unwrap();
        let (_, second, _) = share(&kv, two.path(), &token, || Ok(None), now).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(shared::export(two.path()).unwrap(), first.certificates);
    }

    #[tokio::test]
    async fn authorities_that_the_store_never_took_give_way_and_others_do_not() {
        let kv = kedge_kv::Embedded::memory(kedge_base::system_clock()).unwrap();
        let token = Token::parse("a-token").unwrap();
        let now = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        // Cut off before its authorities were in the store, which another server was faster to reach.
        std::fs::write(dirs[0].path().join(OFFERED), "").unwrap();
        Pki::open(dirs[0].path(), now).unwrap();
        let (_, first, _) = share(&kv, dirs[1].path(), &token, || Ok(None), now).await.unwrap();
        assert!(!dirs[1].path().join(OFFERED).exists());
        share(&kv, dirs[0].path(), &token, || Ok(None), now).await.unwrap();
        assert_eq!(shared::export(dirs[0].path()).unwrap(), first.certificates);
        assert!(!dirs[0].path().join(OFFERED).exists());
        // These may be in use by a cluster.
        Pki::open(dirs[2].path(), now).unwrap();
        let own = shared::export(dirs[2].path()).unwrap();
        assert!(share(&kv, dirs[2].path(), &token, || Ok(None), now).await.is_err());
        assert_eq!(shared::export(dirs[2].path()).unwrap(), own);
    }
}
