//! Encryption of secrets at rest: the keys of this cluster, turning it on and off and changing keys while it runs.
//!
//! The configuration is upstream's `EncryptionConfiguration` in a file, 0600. Every step first makes durable a configuration
//! that reads both what is stored now and what will be, then writes every value anew, and only then drops what is no longer
//! needed; a step that was cut off is completed at the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kedge_base::{SharedClock, random};
use kedge_certs::write_atomically;
use kedge_kv::Kv;
use kedge_storage::{Encryption, Source, Storage};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::error::Error;
use crate::identity::{self, Identity};
use crate::token::Token;

/// What is encrypted.
const RESOURCES: [&str; 1] = ["secrets"];
/// So many keys that are no longer in the configuration are remembered while the server runs: older values may still be on
/// their way to the caches, or be read as history.
const REMEMBERED: usize = 8;
/// How often a configuration that other servers share is tried to be replaced.
const ATTEMPTS: usize = 5;
/// How often, and after which time, the configuration of other servers is read again when it could not be.
const RELOADS: usize = 10;
const RETRY: Duration = Duration::from_secs(1);

/// A change of the encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Enable,
    Disable,
    RotateKeys,
}

/// How the encryption stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionStatus {
    /// `Enabled` or `Disabled`.
    pub status: String,
    /// `start`, `reencrypt_active` or `reencrypt_finished`.
    pub stage: String,
    /// Names of the keys; the first one encrypts.
    pub keys: Vec<String>,
}

/// A configuration file, as it is read and written here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// Keys with their secrets, first the one that encrypts.
    keys: Vec<(String, String)>,
    enabled: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Start,
    ReencryptActive,
    ReencryptFinished,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ReencryptActive => "reencrypt_active",
            Self::ReencryptFinished => "reencrypt_finished",
        }
    }
}

const STAGE: &str = "kedge.io/stage";

impl File {
    fn new() -> Self {
        Self { keys: vec![new_key()], enabled: true, stage: Stage::Start }
    }

    /// As upstream reads it; the stage is kept in the metadata, which upstream ignores.
    fn to_value(&self) -> Value {
        let keys: Vec<Value> = self.keys.iter().map(|(name, secret)| json!({"name": name, "secret": secret})).collect();
        let (aes, identity) = (json!({"aesgcm": {"keys": keys}}), json!({"identity": {}}));
        let providers = match (self.keys.is_empty(), self.enabled) {
            (true, _) => vec![identity],
            (false, true) => vec![aes, identity],
            (false, false) => vec![identity, aes],
        };
        json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": RESOURCES, "providers": providers}],
        })
    }

    fn render(&self) -> String {
        let mut value = self.to_value();
        value[STAGE] = json!(self.stage);
        value.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let providers = value["resources"][0]["providers"].as_array().ok_or("it names no providers")?;
        let enabled = providers.first().is_some_and(|p| p.get("aesgcm").is_some());
        let keys = providers.iter().find_map(|p| p["aesgcm"]["keys"].as_array()).cloned().unwrap_or_default();
        let text = |key: &Value, field: &str| key[field].as_str().unwrap_or_default().to_owned();
        let keys = keys.iter().map(|key| (text(key, "name"), text(key, "secret"))).collect();
        let stage = serde_json::from_value(value[STAGE].clone()).unwrap_or(Stage::Start);
        Ok(Self { keys, enabled, stage })
    }

    fn encryption(&self) -> Result<Encryption, Error> {
        Encryption::from_value(self.to_value()).map_err(|e| Error::Encryption(e.to_string()))
    }
}

/// A key with a name of its own: stored values name their key, and one that is gone must not be taken for another.
fn new_key() -> (String, String) {
    (format!("aesgcmkey-{}", random::name_suffix(10)), STANDARD.encode(random::bytes::<32>()))
}

/// Where the configuration of a data directory is.
pub(crate) fn path_of(data_dir: &Path) -> PathBuf {
    data_dir.join("server/cred/encryption-config.json")
}

/// The configuration at the start: what the cluster shares, else the file, else a new one if it is wanted.
pub(crate) fn at_start(path: &Path, shared: Option<&str>, wanted: bool) -> Result<Option<String>, Error> {
    let there = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(Error::File { action: "read", path: path.to_owned(), source }),
    };
    let text = match (shared, there) {
        (Some(shared), there) => {
            if there.as_deref() != Some(shared) {
                write(path, shared)?;
            }
            shared.to_owned()
        }
        (None, Some(text)) => text,
        (None, None) if wanted => {
            let text = File::new().render();
            write(path, &text)?;
            text
        }
        (None, None) => return Ok(None),
    };
    parse(path, &text)?;
    Ok(Some(text))
}

/// Makes `wanted` the configuration of a data directory, none that there is none. What was there is renamed: values may
/// still be sealed with its keys.
pub(crate) fn place(path: &Path, wanted: Option<&str>, now: Timestamp) -> Result<(), Error> {
    match std::fs::read_to_string(path) {
        Ok(there) if Some(there.as_str()) == wanted => return Ok(()),
        Ok(_) => {
            let old = path.with_extension(format!("json.old-{}", now.as_second()));
            std::fs::rename(path, old).map_err(|source| Error::File {
                action: "rename",
                path: path.to_owned(),
                source,
            })?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::File { action: "read", path: path.to_owned(), source }),
    }
    wanted.map_or(Ok(()), |text| write(path, text))
}

/// What a configuration says to the store.
pub(crate) fn encryption(path: &Path, text: Option<&str>) -> Result<Encryption, Error> {
    text.map_or(Ok(Encryption::default()), |text| parse(path, text)?.encryption())
}

/// A configuration of the user's own, in YAML or JSON.
pub(crate) fn from_file(path: &Path) -> Result<Encryption, Error> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| Error::File { action: "read", path: path.to_owned(), source })?;
    let bad = |what: String| Error::Encryption(format!("{}: {what}", path.display()));
    let value: Value = serde_yaml::from_str(&text).map_err(|e| bad(e.to_string()))?;
    Encryption::from_value(value).map_err(|e| bad(e.to_string()))
}

fn parse(path: &Path, text: &str) -> Result<File, Error> {
    File::parse(text).map_err(|what| Error::Encryption(format!("{} cannot be used: {what}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(path);
    let io = |source| Error::File { action: "create", path: dir.to_owned(), source };
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(dir)
        .map_err(io)?;
    Ok(write_atomically(path, text.as_bytes(), 0o600)?)
}

/// As [`write`], where others must not wait for the disk.
async fn save(path: &Path, text: &str) -> Result<(), Error> {
    let (path, text) = (path.to_owned(), text.to_owned());
    let written = kedge_base::blocking::unbounded("encryption", move || write(&path, &text)).await;
    written.map_err(|panicked| Error::Encryption(panicked.to_string()))?
}

/// The encryption of a running server.
pub(crate) struct SecretsEncryption {
    storage: Arc<Storage>,
    path: PathBuf,
    /// Where other servers find the configuration, and the token that it is sealed with.
    shared: Option<(Arc<dyn Kv>, RwLock<Token>)>,
    clock: SharedClock,
    /// Held while the encryption is changed and values are written anew.
    changing: Mutex<()>,
    /// What is in use; held only while it is replaced, so that changes of other servers are followed also during one's own.
    used: Mutex<Used>,
}

/// The configuration in use.
struct Used {
    file: Option<File>,
    /// Keys that were in it before, newest first.
    older: Vec<(String, String)>,
}

impl Used {
    /// Puts another configuration in the place of this one.
    fn replace(&mut self, file: File) {
        let was = self.file.take().map(|was| was.keys).unwrap_or_default();
        let older = was.into_iter().chain(self.older.drain(..));
        self.older = older.filter(|key| !file.keys.contains(key)).take(REMEMBERED).collect();
        self.file = Some(file);
    }

    /// What the configuration says to the store; values of older keys are read, too.
    fn encryption(&self) -> Result<Encryption, Error> {
        let Some(file) = &self.file else { return Ok(Encryption::default()) };
        let keys = file.keys.iter().chain(&self.older).cloned().collect();
        File { keys, ..file.clone() }.encryption()
    }
}

impl SecretsEncryption {
    pub(crate) fn new(
        storage: Arc<Storage>,
        path: PathBuf,
        text: Option<&str>,
        shared: Option<(Arc<dyn Kv>, Token)>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let file = text.map(|text| parse(&path, text)).transpose()?;
        let used = Used { file, older: Vec::new() };
        let shared = shared.map(|(kv, token)| (kv, RwLock::new(token)));
        Ok(Self { storage, path, shared, clock, changing: Mutex::new(()), used: Mutex::new(used) })
    }

    /// From now on nothing is written otherwise than the shared configuration says, which `revision` had as it is used here.
    pub(crate) async fn begin(&self, revision: u64) -> Result<(), Error> {
        self.apply(&*self.used.lock().await, Some(revision))
    }

    pub(crate) async fn status(&self) -> EncryptionStatus {
        status_of(self.used.lock().await.file.as_ref())
    }

    /// Lets the store use the configuration, with the revision that the shared one has.
    fn apply(&self, used: &Used, revision: Option<u64>) -> Result<(), Error> {
        let source = revision.map(|revision| Source { key: identity::KEY, revision, resources: &RESOURCES });
        self.storage.set_encryption(Arc::new(used.encryption()?), source);
        Ok(())
    }

    /// Takes over what another server has made of the shared configuration.
    pub(crate) async fn reload(&self) -> Result<(), Error> {
        let Some((kv, token)) = &self.shared else { return Ok(()) };
        let mut used = self.used.lock().await;
        let token = token.read().clone();
        let Some((identity, revision)) = identity::load(&**kv, &token).await? else { return Ok(()) };
        self.take_over(&mut used, &identity).await?;
        self.apply(&used, Some(revision))
    }

    async fn take_over(&self, used: &mut Used, identity: &Identity) -> Result<(), Error> {
        let Some(text) = &identity.encryption else { return Ok(()) };
        let file = parse(&self.path, text)?;
        if used.file.as_ref() != Some(&file) {
            save(&self.path, text).await?;
            info!(keys = file.keys.len(), encrypted = file.enabled, "another server changed the encryption of secrets");
            used.replace(file);
        }
        Ok(())
    }

    /// Seals what servers share with another token. `managed` says whether the encryption is what they share.
    pub(crate) async fn rotate_token(&self, new: &Token, managed: bool) -> Result<(), Error> {
        let Some((kv, token)) = &self.shared else { return Ok(()) };
        // Changes that are seen meanwhile are looked at with the token that is used then.
        let mut used = self.used.lock().await;
        for _ in 0..ATTEMPTS {
            let old = token.read().clone();
            let loaded = match identity::load(&**kv, &old).await {
                // An earlier attempt whose answer was lost: it is sealed once more.
                Err(Error::WrongToken) => identity::load(&**kv, new).await,
                loaded => loaded,
            };
            let Some((identity, revision)) = loaded? else { break };
            if managed {
                self.take_over(&mut used, &identity).await?;
            }
            if let Some(revision) = identity::store(&**kv, new, &identity, revision).await? {
                *token.write() = new.clone();
                return if managed { self.apply(&used, Some(revision)) } else { Ok(()) };
            }
        }
        Err(Error::Identity("it is changed by other servers at the same time; try again".into()))
    }

    /// Follows the changes of other servers. They make a new key known before they use it, so the configuration that is
    /// read once a value of an unknown key has come has the key of that value.
    pub(crate) async fn follow(&self, changed: &identity::Changes) {
        self.storage.follow_keys();
        loop {
            self.catch_up().await;
            tokio::select! {
                () = changed.next() => {}
                () = self.storage.key_missing() => {}
            }
        }
    }

    async fn catch_up(&self) {
        let (mut failures, mut waiting) = (0, self.storage.waits_at());
        while failures < RELOADS {
            if let Err(err) = self.reload().await {
                warn!(error = %err, "cannot follow a change of the encryption of secrets yet");
                failures += 1;
                self.clock.sleep(RETRY).await;
                continue;
            }
            // What came while the configuration was read may need a newer one. What had come before has its key now, or
            // none has it.
            let before = std::mem::replace(&mut waiting, self.storage.waits_at());
            if waiting.is_none() || waiting == before {
                break;
            }
        }
        // As long as the configuration cannot be read there is no use in waiting for what else came.
        let given_up = if failures < RELOADS { waiting.unwrap_or_default() } else { u64::MAX };
        if let Err(err) = self.storage.go_on(given_up).await {
            warn!(error = %err, "cannot read again what could not be read before");
        }
    }

    /// Completes a step that the last process did not.
    pub(crate) async fn resume(&self) {
        let _one_at_a_time = self.changing.lock().await;
        let Some(file) = self.used.lock().await.file.clone().filter(|f| f.stage == Stage::ReencryptActive) else {
            return;
        };
        if let Err(err) = self.reencrypt(file).await {
            error!(error = %err, "secrets are not all encrypted anew; the next start tries again");
        }
    }

    /// Changes the encryption and writes every secret anew.
    pub(crate) async fn change(&self, action: Action) -> Result<EncryptionStatus, Error> {
        let _one_at_a_time = self.changing.lock().await;
        self.reload().await?;
        let base = self.used.lock().await.file.clone();
        let mut file = base.clone().unwrap_or(File { keys: Vec::new(), enabled: false, stage: Stage::Start });
        // A step that failed half-way is completed by asking for the same again.
        let complete = file.stage != Stage::ReencryptActive;
        match action {
            Action::Enable if file.enabled && complete => return Ok(status_of(Some(&file))),
            Action::Disable if !file.enabled && complete => return Ok(status_of(Some(&file))),
            Action::RotateKeys if !file.enabled => {
                return Err(Error::Encryption(
                    "it is disabled; enable it first with `kedge secrets-encrypt enable`".into(),
                ));
            }
            Action::Enable if file.keys.is_empty() => {
                file.keys = vec![new_key()];
                file.enabled = true;
            }
            Action::Enable => file.enabled = true,
            Action::Disable => file.enabled = false,
            Action::RotateKeys => file.keys.insert(0, new_key()),
        }
        file.stage = Stage::ReencryptActive;
        self.publish(base.as_ref(), &file).await?;
        let done = self.reencrypt(file).await?;
        Ok(status_of(Some(&done)))
    }

    /// Writes every value as the configuration says, and drops the keys that are no longer needed.
    async fn reencrypt(&self, base: File) -> Result<File, Error> {
        let mut written = 0;
        for resource in RESOURCES {
            written += self.storage.reseal(resource).await?;
        }
        let mut file = base.clone();
        // What was written with the key before this one may not have come to the caches of another server.
        file.keys.truncate(usize::from(file.enabled) + usize::from(self.shared.is_some()));
        file.stage = Stage::ReencryptFinished;
        self.publish(Some(&base), &file).await?;
        info!(written, encrypted = file.enabled, "secrets are stored as configured");
        Ok(file)
    }

    /// Makes a configuration durable, for other servers and here, and then uses it. What other servers share must still be
    /// `base`, which `file` was made of: a key that only the one had must not be lost by the other.
    async fn publish(&self, base: Option<&File>, file: &File) -> Result<(), Error> {
        let mut used = self.used.lock().await;
        let text = file.render();
        let revision = match &self.shared {
            Some((kv, token)) => {
                let token = token.read().clone();
                share(&**kv, &token, base, file).await?
            }
            None => None,
        };
        save(&self.path, &text).await?;
        used.replace(file.clone());
        self.apply(&used, revision)
    }
}

/// Returns the revision of what is shared then.
async fn share(kv: &dyn Kv, token: &Token, base: Option<&File>, file: &File) -> Result<Option<u64>, Error> {
    for _ in 0..ATTEMPTS {
        let Some((mut identity, revision)) = identity::load(kv, token).await? else { break };
        let there = identity.encryption.as_deref().map(File::parse).transpose().map_err(Error::Encryption)?;
        // An earlier attempt whose answer was lost.
        if there.as_ref() == Some(file) {
            return Ok(Some(revision));
        }
        if there.as_ref() != base {
            return Err(Error::Encryption("another server changed it at the same time; look and try again".into()));
        }
        identity.encryption = Some(file.render());
        if let Some(revision) = identity::store(kv, token, &identity, revision).await? {
            return Ok(Some(revision));
        }
    }
    Err(Error::Identity("it is changed by other servers at the same time; try again".into()))
}

fn status_of(file: Option<&File>) -> EncryptionStatus {
    let enabled = file.is_some_and(|f| f.enabled);
    EncryptionStatus {
        status: if enabled { "Enabled" } else { "Disabled" }.to_owned(),
        stage: file.map_or(Stage::Start, |f| f.stage).name().to_owned(),
        keys: file.map(|f| f.keys.iter().map(|(name, _)| name.clone()).collect()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_kv::Embedded;
    use kedge_storage::{ResourceConfig, With};

    const KEY: &[u8] = b"/registry/secrets/a/b";

    async fn with_a_secret(dir: &Path) -> (Arc<Embedded>, SecretsEncryption) {
        let clock = kedge_base::system_clock();
        let kv = Arc::new(Embedded::memory(clock.clone()).unwrap());
        let config = ResourceConfig::new("secrets", "secrets");
        let storage = Storage::open(kv.clone(), &[config], Arc::default(), clock.clone()).await.unwrap();
        let storage = Arc::new(storage);
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b", "namespace": "a"}});
        storage.resource("secrets").unwrap().create("a/b", &secret, With::default()).await.unwrap();
        let encryption = SecretsEncryption::new(storage, path_of(dir), None, None, clock).unwrap();
        (kv, encryption)
    }

    async fn stored(kv: &Embedded) -> Vec<u8> {
        kv.get(KEY).await.unwrap().unwrap().value.to_vec()
    }

    #[tokio::test]
    async fn it_is_turned_on_rotated_and_turned_off_on_a_running_store() {
        let dir = tempfile::tempdir().unwrap();
        let (kv, encryption) = with_a_secret(dir.path()).await;
        assert_eq!(encryption.status().await.status, "Disabled");
        assert!(encryption.change(Action::RotateKeys).await.is_err());
        let on = encryption.change(Action::Enable).await.unwrap();
        assert_eq!((on.status.as_str(), on.keys.len()), ("Enabled", 1));
        let prefix = format!("k8s:enc:aesgcm:v1:{}:", on.keys[0]);
        assert!(stored(&kv).await.starts_with(prefix.as_bytes()));
        let rotated = encryption.change(Action::RotateKeys).await.unwrap();
        assert_ne!(rotated.keys, on.keys);
        let prefix = format!("k8s:enc:aesgcm:v1:{}:", rotated.keys[0]);
        assert!(stored(&kv).await.starts_with(prefix.as_bytes()));
        encryption.change(Action::Disable).await.unwrap();
        assert!(stored(&kv).await.starts_with(b"{"));
        // What was turned off is off at the next start, and can be read.
        let text = at_start(&path_of(dir.path()), None, false).unwrap().unwrap();
        assert!(!super::encryption(&path_of(dir.path()), Some(&text)).unwrap().seals("secrets"));
    }

    #[tokio::test]
    async fn a_key_that_is_gone_leaves_its_name_to_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (_, encryption) = with_a_secret(dir.path()).await;
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..3 {
            names.extend(encryption.change(Action::Enable).await.unwrap().keys);
            encryption.change(Action::Disable).await.unwrap();
        }
        names.extend(File::new().keys.into_iter().map(|(name, _)| name));
        assert_eq!(names.len(), 4);
    }

    #[tokio::test]
    async fn a_step_that_was_cut_off_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let (kv, encryption) = with_a_secret(dir.path()).await;
        let file = File { stage: Stage::ReencryptActive, ..File::new() };
        encryption.publish(None, &file).await.unwrap();
        encryption.resume().await;
        assert!(stored(&kv).await.starts_with(b"k8s:enc:"));
        assert_eq!(encryption.status().await.stage, "reencrypt_finished");
    }

    #[tokio::test]
    async fn a_step_that_failed_is_completed_by_asking_again() {
        let dir = tempfile::tempdir().unwrap();
        let (kv, encryption) = with_a_secret(dir.path()).await;
        encryption.publish(None, &File { stage: Stage::ReencryptActive, ..File::new() }).await.unwrap();
        assert!(stored(&kv).await.starts_with(b"{"));
        let status = encryption.change(Action::Enable).await.unwrap();
        assert_eq!(status.stage, "reencrypt_finished");
        assert!(stored(&kv).await.starts_with(b"k8s:enc:"));
    }

    /// A server on a shared store, with its own directory.
    async fn server(kv: &Arc<Embedded>, token: &Token, dir: &Path) -> SecretsEncryption {
        let clock = kedge_base::system_clock();
        let config = ResourceConfig::new("secrets", "secrets");
        let storage = Storage::open(kv.clone(), &[config], Arc::default(), clock.clone()).await.unwrap();
        let shared: Option<(Arc<dyn Kv>, Token)> = Some((kv.clone(), token.clone()));
        SecretsEncryption::new(Arc::new(storage), path_of(dir), None, shared, clock).unwrap()
    }

    #[tokio::test]
    async fn a_key_is_not_lost_to_another_server_that_changes_the_encryption_too() {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (kv, _) = with_a_secret(dirs.0.path()).await;
        let token = Token::parse("a-token").unwrap();
        identity::store(&*kv, &token, &identity::Identity::default(), 0).await.unwrap();
        let one = server(&kv, &token, dirs.0.path()).await;
        let two = server(&kv, &token, dirs.1.path()).await;
        one.change(Action::Enable).await.unwrap();
        // What the second one has not heard of yet is the base of what it does.
        let rotated = two.change(Action::RotateKeys).await.unwrap();
        assert_eq!(rotated.keys.len(), 2);
        // A change that is based on what is no longer there is refused.
        let stale = one.used.lock().await.file.clone();
        let lost = File { keys: vec![new_key()], enabled: true, stage: Stage::ReencryptActive };
        let refused = one.publish(stale.as_ref(), &lost).await.unwrap_err().to_string();
        assert!(refused.contains("another server"), "{refused}");
        let (shared, _) = identity::load(&*kv, &token).await.unwrap().unwrap();
        let keys = File::parse(&shared.encryption.unwrap()).unwrap().keys;
        assert_eq!(keys.iter().map(|(name, _)| name).collect::<Vec<_>>(), rotated.keys.iter().collect::<Vec<_>>());
        one.reload().await.unwrap();
        assert!(one.storage.resource("secrets").unwrap().current("a/b").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_shared_is_sealed_with_the_new_token_and_no_longer_with_the_old() {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (kv, _) = with_a_secret(dirs.0.path()).await;
        let (old, new) = (Token::parse("a-token").unwrap(), Token::parse("another").unwrap());
        identity::store(&*kv, &old, &identity::Identity::default(), 0).await.unwrap();
        let one = server(&kv, &old, dirs.0.path()).await;
        let two = server(&kv, &old, dirs.1.path()).await;
        // What another server has made of it meanwhile is not lost.
        two.change(Action::Enable).await.unwrap();
        one.rotate_token(&new, true).await.unwrap();
        assert!(matches!(identity::load(&*kv, &old).await, Err(Error::WrongToken)));
        let (shared, _) = identity::load(&*kv, &new).await.unwrap().unwrap();
        assert_eq!(File::parse(&shared.encryption.unwrap()).unwrap().keys.len(), 1);
        assert_eq!(one.change(Action::RotateKeys).await.unwrap().keys.len(), 2, "it goes on with the new one");
        assert!(two.change(Action::RotateKeys).await.is_err(), "who does not know it cannot");
        // Asked again, since the answer was lost.
        two.rotate_token(&new, true).await.unwrap();
        two.reload().await.unwrap();
    }

    #[tokio::test]
    async fn another_server_reads_what_is_sealed_with_a_key_that_it_has_not_heard_of() {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (kv, _) = with_a_secret(dirs.0.path()).await;
        let token = Token::parse("a-token").unwrap();
        identity::store(&*kv, &token, &identity::Identity::default(), 0).await.unwrap();
        let one = server(&kv, &token, dirs.0.path()).await;
        let two = Arc::new(server(&kv, &token, dirs.1.path()).await);
        let secrets = two.storage.resource("secrets").unwrap();
        // What happened before it follows is caught up with.
        one.change(Action::Enable).await.unwrap();
        let changes = identity::Changes::observe(&*kv).await.unwrap();
        let tasks = kedge_base::TaskGroup::new("test", kedge_base::Shutdown::new());
        let following = two.clone();
        tasks.spawn_until_shutdown("follow", async move { following.follow(&changes).await });
        while !matches!(two.status().await.status.as_str(), "Enabled") || secrets.get("a/b").unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let (_, mut watcher) = secrets.watch_with_state("", kedge_storage::Matcher::default()).unwrap();
        for _ in 0..3 {
            one.change(Action::RotateKeys).await.unwrap();
            secrets.fresh().await.unwrap();
            assert!(secrets.get("a/b").unwrap().is_some());
        }
        while let Some((kind, _)) = watcher.try_next().unwrap() {
            assert_eq!(kind, kedge_storage::EventKind::Modified);
        }
        assert!(tasks.join(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn a_server_that_does_not_know_of_a_change_writes_nothing_until_it_does() {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (kv, _) = with_a_secret(dirs.0.path()).await;
        let token = Token::parse("a-token").unwrap();
        let first = identity::store(&*kv, &token, &identity::Identity::default(), 0).await.unwrap().unwrap();
        let one = server(&kv, &token, dirs.0.path()).await;
        let two = server(&kv, &token, dirs.1.path()).await;
        two.begin(first).await.unwrap();
        one.change(Action::Enable).await.unwrap();
        let mut newest = String::new();
        for _ in 0..3 {
            newest = one.change(Action::RotateKeys).await.unwrap().keys[0].clone();
        }
        let secrets = two.storage.resource("secrets").unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c", "namespace": "a"}});
        let learning = async {
            two.storage.key_missing().await;
            assert!(kv.get(b"/registry/secrets/a/c").await.unwrap().is_none());
            two.reload().await.unwrap();
        };
        let (made, ()) = tokio::join!(secrets.create("a/c", &secret, With::default()), learning);
        made.unwrap();
        let stored = kv.get(b"/registry/secrets/a/c").await.unwrap().unwrap().value;
        assert!(stored.starts_with(format!("k8s:enc:aesgcm:v1:{newest}:").as_bytes()));
    }

    #[tokio::test]
    async fn values_of_keys_that_have_gone_are_read_while_the_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (kv, encryption) = with_a_secret(dir.path()).await;
        encryption.change(Action::Enable).await.unwrap();
        let old = stored(&kv).await;
        for _ in 0..3 {
            encryption.change(Action::RotateKeys).await.unwrap();
        }
        assert_eq!(encryption.status().await.keys.len(), 1);
        let opened = encryption.used.lock().await.encryption().unwrap();
        let opened = opened.open("secrets", "/registry/secrets/a/b", old.into()).unwrap();
        assert!(opened.stale && opened.value.starts_with(b"{"));
    }
}
