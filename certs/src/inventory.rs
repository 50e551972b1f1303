//! The certificates of a data directory: what they are for, until when they are good, and copies of them before they go.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;

use crate::RENEW_DAYS;
use crate::error::Error;
use crate::files::{read_if_there, write_atomically};

/// Copies of one second.
const MOST: u32 = 100;

/// The parts of a server that have certificates, and the names of their files.
pub const SERVICES: [(&str, &[&str]); 5] = [
    ("admin", &["client-admin"]),
    ("api-server", &["client-kube-apiserver", "serving-kube-apiserver"]),
    ("auth-proxy", &["client-auth-proxy"]),
    ("etcd", &["etcd-client"]),
    ("kubelet", &["serving-kubelet"]),
];

/// Parts that need none here, because they run in the server's own process.
pub const WITHOUT: [&str; 7] = [
    "cloud-controller",
    "controller-manager",
    "kedge-controller",
    "kedge-server",
    "kube-proxy",
    "scheduler",
    "supervisor",
];

/// The files of services; of all of them, when none is named.
///
/// # Errors
/// The name that no service has.
pub fn files_of(services: &[String]) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    for name in services {
        let known = SERVICES.iter().find(|(service, _)| service == name);
        match known {
            Some((_, of)) => files.extend(of.iter().map(|file| (*file).to_owned())),
            None if WITHOUT.contains(&name.as_str()) => {}
            None => return Err(name.clone()),
        }
    }
    if services.is_empty() {
        files.extend(SERVICES.iter().flat_map(|(_, of)| of.iter()).map(|file| (*file).to_owned()));
    }
    Ok(files)
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Ok,
    /// It is to be renewed.
    Warning,
    Expired,
    NotYetValid,
}

impl Standing {
    /// How it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Expired => "EXPIRED",
            Self::NotYetValid => "NOT YET VALID",
        }
    }
}

/// A certificate of a file, which may have several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub filename: String,
    /// The common name.
    pub subject: String,
    pub issuer: String,
    pub usages: Vec<&'static str>,
    /// When it ends, or begins if it has not yet.
    pub expiry_time: OffsetDateTime,
    pub residual: Duration,
    pub status: Standing,
}

/// The certificates of files, as far as these are there.
///
/// # Errors
/// When one is there and cannot be read.
pub fn list(dir: &Path, files: &[String], now: OffsetDateTime) -> Result<Vec<Listed>, Error> {
    let mut listed = Vec::new();
    for file in files {
        let filename = format!("{file}.crt");
        let path = dir.join(&filename);
        let Some(text) = read_if_there(&path)? else { continue };
        let bad = |what: String| Error::Parse { path: path.clone(), what };
        for block in Pem::iter_from_buffer(text.as_bytes()) {
            let block = block.map_err(|err| bad(err.to_string()))?;
            let certificate = block.parse_x509().map_err(|err| bad(err.to_string()))?;
            listed.push(entry(filename.clone(), &certificate, now));
        }
    }
    Ok(listed)
}

fn entry(filename: String, certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Listed {
    let name = |name: &x509_parser::x509::X509Name<'_>| {
        let common = name.iter_common_name().last().and_then(|name| name.as_str().ok());
        common.unwrap_or_default().to_owned()
    };
    let begin = certificate.validity().not_before.to_datetime();
    let end = certificate.validity().not_after.to_datetime();
    let status = match () {
        () if now < begin => Standing::NotYetValid,
        () if now > end => Standing::Expired,
        () if now + Duration::days(RENEW_DAYS) > end => Standing::Warning,
        () => Standing::Ok,
    };
    Listed {
        filename,
        subject: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        usages: usages(certificate),
        expiry_time: if status == Standing::NotYetValid { begin } else { end },
        residual: end - now,
        status,
    }
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<&'static str> {
    let key = certificate.key_usage().ok().flatten();
    let extended = certificate.extended_key_usage().ok().flatten();
    let all = [
        ("CertSign", key.is_some_and(|usage| usage.value.key_cert_sign())),
        ("ServerAuth", extended.as_ref().is_some_and(|usage| usage.value.server_auth)),
        ("ClientAuth", extended.as_ref().is_some_and(|usage| usage.value.client_auth)),
    ];
    let found: Vec<_> = all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
    if found.is_empty() { vec!["Unknown"] } else { found }
}

/// Copies all certificates and keys of a directory to a new one beside it, `tls-<seconds>`, and returns where they are.
///
/// # Errors
/// When a file cannot be read or written.
pub fn back_up(dir: &Path, now: OffsetDateTime) -> Result<PathBuf, Error> {
    let to = new_directory(dir, now)?;
    let io = |source| Error::Io { action: "read", path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_ours = path.extension().is_some_and(|end| end == "crt" || end == "key");
        if let Some(content) = is_ours.then(|| read_if_there(&path)).transpose()?.flatten() {
            write_atomically(&to.join(path.file_name().unwrap_or_default()), content.as_bytes(), 0o600)?;
        }
    }
    Ok(to)
}

fn new_directory(dir: &Path, now: OffsetDateTime) -> Result<PathBuf, Error> {
    let mut more = 0;
    loop {
        let end = if more == 0 { String::new() } else { format!("-{more}") };
        let to = dir.with_file_name(format!("tls-{}{end}", now.unix_timestamp()));
        match std::fs::DirBuilder::new().mode(0o700).create(&to) {
            Ok(()) => return Ok(to),
            // Somebody was here within the same second; what is there stays.
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists && more < MOST => more += 1,
            Err(source) => return Err(Error::Io { action: "create directory", path: to, source }),
        }
    }
}

/// Removes leaves, which the next start issues anew.
///
/// # Errors
/// When one cannot be removed.
pub fn remove(dir: &Path, files: &[String]) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for file in files {
        for end in ["crt", "key"] {
            let path = dir.join(format!("{file}.{end}"));
            match std::fs::remove_file(&path) {
                Ok(()) if end == "crt" => removed.push(file.clone()),
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Io { action: "remove", path, source });
                }
                _ => {}
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Pki;
    use std::os::unix::fs::PermissionsExt as _;

    fn at(days: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() + Duration::days(days)
    }

    #[test]
    fn certificates_are_listed_with_how_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), at(0)).unwrap();
        pki.client("client-admin", "system:admin", None, at(0)).unwrap();
        let files = files_of(&["admin".into(), "scheduler".into()]).unwrap();
        let leaf = |days| list(dir.path(), &files, at(days)).unwrap().remove(0);
        let listed = leaf(0);
        assert_eq!((&*listed.filename, &*listed.subject), ("client-admin.crt", "system:admin"));
        assert_eq!((listed.usages.as_slice(), listed.residual), (&["ClientAuth"][..], Duration::days(365)));
        assert!(listed.issuer.starts_with("kedge-client-ca@"));
        let standing = [0, 244, 246, 366, -1].map(|days| leaf(days).status);
        use Standing::{Expired, NotYetValid, Ok, Warning};
        assert_eq!(standing, [Ok, Ok, Warning, Expired, NotYetValid]);
        let authority = list(dir.path(), &files, at(0)).unwrap().remove(1);
        assert_eq!(authority.usages, ["CertSign"]);
        assert_eq!(files_of(&["nobody".into()]), Err("nobody".into()));
        assert_eq!(files_of(&[]).unwrap().len(), 6);
    }

    #[test]
    fn what_goes_is_copied_before() {
        let dir = tempfile::tempdir().unwrap();
        let tls = dir.path().join("tls");
        let pki = Pki::open(&tls, at(0)).unwrap();
        let leaf = pki.client("client-admin", "system:admin", None, at(0)).unwrap();
        let copies = back_up(&tls, at(1)).unwrap();
        assert_ne!(back_up(&tls, at(1)).unwrap(), copies, "another within the same second");
        assert_eq!(remove(&tls, &["client-admin".into(), "etcd-client".into()]).unwrap(), ["client-admin"]);
        assert!(!tls.join("client-admin.key").exists() && tls.join("client-ca.key").exists());
        assert_eq!(std::fs::read_to_string(copies.join("client-admin.key")).unwrap(), leaf.key);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&copies), mode(&copies.join("server-ca.key"))), (0o700, 0o600));
    }
}
