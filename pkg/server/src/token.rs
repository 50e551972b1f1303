//! The cluster's token: what further servers and nodes join with.

use std::path::Path;

use kedge_base::random;
use kedge_certs::{Pki, digest, write_atomically};

use crate::error::Error;

/// A token: a password, or `K10<SHA-256 of the authority>::<user>:<password>`.
#[derive(Clone)]
pub struct Token {
    password: String,
    ca_hash: Option<String>,
}

/// Longer ones are no tokens.
const MAX: usize = 4096;

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// [`Error::Token`] when it is neither form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX || text.contains(char::is_whitespace) {
            return Err(Error::Token("it is empty, too long or has spaces"));
        }
        let Some(secure) = text.strip_prefix("K10") else {
            return Ok(Self { password: text.to_owned(), ca_hash: None });
        };
        let (hash, user) = secure.split_once("::").ok_or(Error::Token("K10 is not followed by a hash and ::"))?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::Token("the hash after K10 is no SHA-256"));
        }
        let password = user.split_once(':').map_or(user, |(_, password)| password);
        if password.is_empty() {
            return Err(Error::Token("it has no password"));
        }
        Ok(Self { password: password.to_owned(), ca_hash: Some(hash.to_ascii_lowercase()) })
    }

    /// The secret part.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Checks that an authority is the one that the token names, if it names one.
    ///
    /// # Errors
    /// [`Error::Token`] when it is another.
    pub fn check_authority(&self, pem: &str) -> Result<(), Error> {
        match &self.ca_hash {
            Some(hash) if *hash != digest(pem) => Err(Error::Token("it was made for a cluster with another authority")),
            _ => Ok(()),
        }
    }

    /// Checks that the authority that the token names, if it names one, is a cluster's or was it before.
    ///
    /// # Errors
    /// As [`Token::check_authority`].
    pub(crate) fn check(&self, pki: &Pki) -> Result<(), Error> {
        match &self.ca_hash {
            Some(hash) if pki.knows_server_ca(hash) => Ok(()),
            _ => self.check_authority(&pki.server_ca.certificate),
        }
    }

    /// The form that also names the cluster's authority.
    pub fn secure(&self, pem: &str) -> String {
        Self::naming(pem, &format!("server:{}", self.password))
    }

    /// Any credentials in the form that also names the cluster's authority; as they are, where there is none.
    pub(crate) fn naming(pem: &str, credentials: &str) -> String {
        if pem.is_empty() { credentials.to_owned() } else { format!("K10{}::{credentials}", digest(pem)) }
    }

    /// The token of a data directory: the one given, else the one that is there, else a new one, which is there from then
    /// on: what is sealed with it in a shared store must not outlive it.
    ///
    /// # Errors
    /// When the file cannot be read or holds no token.
    pub fn of(path: &Path, given: Option<&str>) -> Result<Self, Error> {
        if let Some(known) = Self::known(path, given)? {
            return Ok(known);
        }
        let made = Self::made();
        private_dir(path.parent().unwrap_or(path))?;
        write_atomically(path, format!("{}\n", made.password).as_bytes(), 0o600)?;
        Ok(made)
    }

    /// A new one.
    pub(crate) fn made() -> Self {
        let secret: [u8; 16] = random::bytes();
        Self { password: secret.iter().map(|b| format!("{b:02x}")).collect(), ca_hash: None }
    }

    /// Whether both are the same; how long that takes tells nothing of where they differ.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let hash = |token: &Self| ring::digest::digest(&ring::digest::SHA256, token.password.as_bytes());
        hash(self).as_ref() == hash(other).as_ref()
    }

    /// The token given, else the one of a data directory, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read or holds no token.
    pub fn known(path: &Path, given: Option<&str>) -> Result<Option<Self>, Error> {
        if let Some(given) = given {
            return Self::parse(given).map(Some);
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { action: "read", path: path.to_owned(), source }),
        }
    }

    /// Writes the secure form to a file, 0600, unless that is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, pem: &str) -> Result<(), Error> {
        let text = format!("{}\n", self.secure(pem));
        if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        Ok(write_atomically(path, text.as_bytes(), 0o600)?)
    }
}

/// Makes a directory that only this user can look into, with those above it.
pub(crate) fn private_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| Error::File { action: "create", path: dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_forms_are_read_and_the_secure_one_names_the_authority() {
        let token = Token::parse("geheim").unwrap();
        let secure = Token::parse(&token.secure("PEM")).unwrap();
        assert_eq!(secure.password(), "geheim");
        secure.check_authority("PEM").unwrap();
        assert!(secure.check_authority("another").is_err());
        for bad in ["", "two words", "K10abc::server:x", "K10nohash"] {
            assert!(Token::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let first = Token::of(&path, None).unwrap();
        assert_eq!(Token::of(&path, None).unwrap().password(), first.password(), "also before the authority is known");
        first.write(&path, "PEM").unwrap();
        assert_eq!(Token::of(&path, None).unwrap().password(), first.password());
        assert_eq!(Token::of(&path, Some("given")).unwrap().password(), "given");
    }
}
