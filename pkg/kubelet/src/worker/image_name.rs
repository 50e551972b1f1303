//! Names of images: what is one, its registry, and the tag it has when it names none.

/// Adds `:latest` to a name without tag and digest, and refuses what cannot be a name.
pub(super) fn with_tag(image: &str) -> Result<String, &'static str> {
    let invalid = Err("invalid reference format");
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[slash..].split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let (host, path) = split_host(repository);
    let component = |c: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        c.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
            && c.bytes().next().is_some_and(plain)
            && c.bytes().last().is_some_and(plain)
    };
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("invalid reference format: repository name must be lowercase");
    }
    let host_ok = host.is_none_or(|h| h.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b)));
    if !host_ok || path.is_empty() || repository.len() > 255 || !path.split('/').all(component) {
        return invalid;
    }
    let word = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if tag.is_some_and(|t| t.len() > 128 || !word(t) || t.starts_with(['.', '-'])) {
        return invalid;
    }
    if let Some(digest) = digest {
        let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
        if hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return invalid;
        }
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_string() })
}

/// The registry of a name, if it names one.
pub(super) fn split_host(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, repository),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_get_a_tag_or_are_refused() {
        let ok = |name: &str| with_tag(name).unwrap();
        assert_eq!(ok("busybox"), "busybox:latest");
        assert_eq!(ok("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        assert_eq!(ok("a.io/b:1"), "a.io/b:1");
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(ok(&digest), digest);
        for bad in ["", "Upper/x", "a:", "a b", "-a", "a//b", "a@sha256:1"] {
            assert!(with_tag(bad).is_err(), "{bad}");
        }
    }
}
