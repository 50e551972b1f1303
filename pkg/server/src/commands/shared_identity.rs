//! The authorities and encryption keys of a cluster, which move with its store: in an etcd they are sealed under a key of
//! their own, beside an embedded store they are files.

use std::path::{Path, PathBuf};

use kedge_base::SharedClock;
use kedge_certs::shared;
use kedge_kv::Kv;

use super::CommandError;
use crate::encryption;
use crate::error::Error;
use crate::identity::{self, Identity};
use crate::start::now;
use crate::token::Token;

pub(super) struct SharedIdentity {
    identity: Identity,
    token: Token,
}

fn tls_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("server/tls")
}

fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("server/token")
}

impl SharedIdentity {
    /// That of the servers on an etcd; none when only stock servers have used it.
    ///
    /// # Errors
    /// When there is no token, or it is another cluster's.
    pub(super) async fn of_etcd(
        etcd: &dyn Kv,
        data_dir: &Path,
        given: Option<&str>,
    ) -> Result<Option<Self>, CommandError> {
        if !identity::is_there(etcd).await? {
            return Ok(None);
        }
        let file = token_file(data_dir);
        let token = Token::known(&file, given)?.ok_or(CommandError::TokenOfEtcd(file))?;
        let found = identity::load(etcd, &token).await?;
        Ok(found.map(|(identity, _)| Self { identity, token }))
    }

    /// That of a server with a data directory; none when none has run there.
    ///
    /// # Errors
    /// When a file cannot be read, or there is no token.
    pub(super) fn of_directory(data_dir: &Path, given: Option<&str>) -> Result<Option<Self>, CommandError> {
        let certificates = shared::export(&tls_dir(data_dir)).map_err(Error::from)?;
        let encryption = encryption::at_start(&encryption::path_of(data_dir), None, false)?;
        if certificates.is_empty() {
            return Ok(None);
        }
        let file = token_file(data_dir);
        let token = Token::known(&file, given)?.ok_or(CommandError::TokenOfDirectory(file))?;
        Ok(Some(Self { identity: Identity { certificates, encryption }, token }))
    }

    pub(super) async fn seal(&self) -> Result<Vec<u8>, Error> {
        identity::sealed(&self.identity, &self.token).await
    }

    /// Makes it that of a data directory, as a server on the etcd would. An encryption configuration of another time is put
    /// aside.
    ///
    /// # Errors
    /// When the directory belongs to another cluster, or cannot be written.
    pub(super) fn place(&self, data_dir: &Path, clock: &SharedClock) -> Result<(), Error> {
        let pki = identity::take(&tls_dir(data_dir), &self.identity, now(clock))?;
        self.token.check(&pki)?;
        encryption::place(&encryption::path_of(data_dir), self.identity.encryption.as_deref(), clock.now())?;
        self.token.write(&token_file(data_dir), &pki.server_ca.certificate)
    }
}
