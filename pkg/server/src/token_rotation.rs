//! Another token in the place of the cluster's, while the server runs.
//!
//! Invariant: whatever is sealed with a token, the token is on this server's disk, also when it is killed at any moment. The new
//! one is there before anything is sealed with it, as the one that is to come; the old one until everything is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kedge_certs::write_atomically;
use tokio::sync::Mutex;
use tracing::info;

use crate::encryption::SecretsEncryption;
use crate::error::Error;
use crate::token::{Token, private_dir};

/// Rotates the token of a running server.
pub(crate) struct TokenRotation {
    pub(crate) encryption: Arc<SecretsEncryption>,
    /// Whether the encryption is managed here, not by a file of the user's own.
    pub(crate) managed: bool,
    /// Where the token is.
    pub(crate) file: PathBuf,
    /// PEM.
    pub(crate) authority: String,
    /// The token as it is.
    pub(crate) current: Mutex<Token>,
}

/// Where the token is that is to come.
pub(crate) fn coming(file: &Path) -> PathBuf {
    file.with_extension("coming")
}

/// The token that is to come, if one is.
pub(crate) fn is_coming(file: &Path) -> Result<Option<Token>, Error> {
    Token::known(&coming(file), None)
}

/// Nothing is to come any more.
pub(crate) fn has_come(file: &Path) -> Result<(), Error> {
    let path = coming(file);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove", path, source })
        }
        _ => Ok(()),
    }
}

// === impl TokenRotation ===

impl TokenRotation {
    /// Puts a token, or one that is made, in the place of the one that there is; `old`, when it is given, must be that.
    ///
    /// # Errors
    /// When a token makes no sense, or what is sealed with it cannot be written.
    pub(crate) async fn rotate(&self, old: Option<&str>, new: Option<&str>) -> Result<(), Error> {
        let mut current = self.current.lock().await;
        if let Some(old) = old
            && !Token::parse(old)?.is(&current)
        {
            return Err(Error::Token("it is not the one that the server has"));
        }
        let new = match (new, is_coming(&self.file)?) {
            (Some(new), _) => Token::parse(new)?,
            // One that was begun with, and may have been used.
            (None, Some(coming)) => coming,
            (None, None) => Token::made(),
        };
        new.check_authority(&self.authority)?;
        private_dir(self.file.parent().unwrap_or(&self.file))?;
        write_atomically(&coming(&self.file), format!("{}\n", new.password()).as_bytes(), 0o600)?;
        self.encryption.rotate_token(&new, self.managed).await?;
        new.write(&self.file, &self.authority)?;
        has_come(&self.file)?;
        *current = new;
        info!("the cluster has another token; other servers need it at their next start");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn rotation(dir: &Path) -> TokenRotation {
        let clock = kedge_base::system_clock();
        let kv = Arc::new(kedge_kv::Embedded::memory(clock.clone()).unwrap());
        let storage = kedge_storage::Storage::open(kv, &[], Arc::default(), clock.clone()).await.unwrap();
        let encryption = SecretsEncryption::new(Arc::new(storage), dir.join("encryption"), None, None, clock).unwrap();
        let current = Mutex::new(Token::parse("first").unwrap());
        let file = dir.join("token");
        TokenRotation { encryption: Arc::new(encryption), managed: true, file, authority: "PEM".into(), current }
    }

    #[tokio::test]
    async fn the_file_has_the_new_token_and_nothing_is_to_come() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = rotation(dir.path()).await;
        let of_file = || Token::known(&rotation.file, None).unwrap().unwrap().password().to_owned();
        assert!(rotation.rotate(Some("other"), Some("second")).await.is_err(), "who does not know the token");
        assert!(!rotation.file.exists() && is_coming(&rotation.file).unwrap().is_none());
        rotation.rotate(Some("first"), Some("second")).await.unwrap();
        assert_eq!(of_file(), "second");
        rotation.rotate(None, None).await.unwrap();
        assert!(of_file() != "second" && of_file().len() == 32);
        assert!(is_coming(&rotation.file).unwrap().is_none());
        // Of one that was cut off the token is taken that may have been used.
        std::fs::write(coming(&rotation.file), "third\n").unwrap();
        rotation.rotate(None, None).await.unwrap();
        assert_eq!(of_file(), "third");
    }
}
