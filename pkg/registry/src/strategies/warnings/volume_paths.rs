//! Files of one volume that are put at the same place, or below one another.

use super::{At, MOST_WARNINGS};

/// Paths of a volume that are compared with each other.
const MOST_COMPARED: usize = 1_000;

/// A path and where it comes from.
#[derive(PartialEq, Eq)]
struct Source {
    path: String,
    from: String,
}

impl Source {
    fn new(path: &str, from: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), from: from.to_owned() }
    }

    fn text(&self) -> String {
        if self.from.is_empty() { format!("{:?}", self.path) } else { format!("{:?} ({})", self.path, self.from) }
    }

    fn collides(&self, other: &Self) -> bool {
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let both = !self.path.is_empty() && !other.path.is_empty();
        both && (self == other || below(&self.path, &other.path) || below(&other.path, &self.path))
    }
}

/// Checks all volumes.
pub(super) fn overlaps(volumes: &At<'_>, warnings: &mut Vec<String>) {
    for volume in volumes.items() {
        let name = volume.child("name").text();
        for (field, kind, named) in
            [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"), ("downwardAPI", "DownwardAPI", "")]
        {
            let source = volume.child(field);
            let what = match named {
                "" => kind.to_owned(),
                named => format!("{kind} {:?}", source.child(named).text()),
            };
            report(name, &what, items(&source, ""), warnings);
        }
        let projected = volume.child("projected");
        let mut all = Vec::new();
        for source in projected.child("sources").items() {
            if source.len() == 0 {
                warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
            all.extend(projection(&source));
        }
        report(name, "Projected", all, warnings);
    }
}

fn report(volume: &str, what: &str, paths: Vec<Source>, warnings: &mut Vec<String>) {
    for (at, path) in paths.iter().take(MOST_COMPARED).enumerate() {
        for other in paths[..at].iter().filter(|other| path.collides(other)) {
            if warnings.len() >= MOST_WARNINGS {
                return;
            }
            let (this, that) = (path.text(), other.text());
            warnings.push(format!("volume {volume:?} ({what}): overlapping paths: {this} with {that}"));
        }
    }
}

fn items(source: &At<'_>, from: &str) -> Vec<Source> {
    source.child("items").items().map(|item| Source::new(item.child("path").text(), from)).collect()
}

/// The files of one source of a projected volume.
fn projection(source: &At<'_>) -> Vec<Source> {
    let named = |kind: &str, at: &At<'_>| format!("{kind} {:?}", at.child("name").text());
    let (map, secret) = (source.child("configMap"), source.child("secret"));
    let (token, bundle, certificate) =
        (source.child("serviceAccountToken"), source.child("clusterTrustBundle"), source.child("podCertificate"));
    if map.child("items").is_set() {
        items(&map, &named("ConfigMap", &map))
    } else if secret.child("items").is_set() {
        items(&secret, &named("Secret", &secret))
    } else if source.child("downwardAPI").child("items").is_set() {
        items(&source.child("downwardAPI"), "DownwardAPI")
    } else if token.is_set() {
        vec![Source::new(token.child("path").text(), "ServiceAccountToken")]
    } else if bundle.is_set() {
        let name = bundle.child("name");
        let name = if name.is_set() { name.text() } else { bundle.child("signerName").text() };
        vec![Source::new(bundle.child("path").text(), &format!("ClusterTrustBundle {name:?}"))]
    } else {
        let files = [
            ("certificateChainPath", "PodCertificate chain"),
            ("keyPath", "PodCertificate key"),
            ("credentialBundlePath", "PodCertificate credential bundle"),
        ];
        let files = files.map(|(field, from)| Source::new(certificate.child(field).text(), from));
        files.into_iter().filter(|file| !file.path.is_empty()).collect()
    }
}
