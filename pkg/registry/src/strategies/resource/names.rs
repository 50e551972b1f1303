//! What drivers, pools, devices and what they have are called.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names::{is_dns1123_label, is_dns1123_subdomain, is_qualified_name};

use super::super::validation::{At, Report};

const MAX_DRIVER: usize = 63;
const MAX_POOL: usize = 253;
const MAX_IDENTIFIER: usize = 32;
const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const NOT_NORMAL: &str = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";

/// A driver, which is called as drivers of CSI are.
pub(super) fn driver(at: &At<'_>, errors: &mut ErrorList) {
    if errors.need_text(at) {
        named_driver(&at.path, at.text(), errors);
    }
}

fn named_driver(path: &Path, name: &str, errors: &mut ErrorList) {
    if name.len() > MAX_DRIVER {
        errors.push(Error::too_long(path, MAX_DRIVER));
    }
    let complaints = is_dns1123_subdomain(&name.to_lowercase());
    errors.extend(complaints.into_iter().map(|complaint| Error::invalid(path, name, complaint)));
}

/// A pool: subdomains with slashes between them.
pub(super) fn pool(at: &At<'_>, errors: &mut ErrorList) {
    if !errors.need_text(at) {
        return;
    }
    if at.text().len() > MAX_POOL {
        errors.push(Error::too_long(&at.path, MAX_POOL));
    }
    for part in at.text().split('/') {
        errors.extend(is_dns1123_subdomain(part).into_iter().map(|why| Error::invalid(&at.path, part, why)));
    }
}

/// A device, a request, a set of counters.
pub(super) fn label(at: &At<'_>, errors: &mut ErrorList) {
    errors.complaints(&At { path: at.path.clone(), value: as_text(at) }, is_dns1123_label(at.text()));
}

/// What is not there is shown as the empty text that it is to upstream.
fn as_text<'a>(at: &At<'a>) -> &'a serde_json::Value {
    static EMPTY: serde_json::Value = serde_json::Value::String(String::new());
    if at.is_set() { at.value } else { &EMPTY }
}

/// A condition, or what a taint is called by.
pub(super) fn label_key(at: &At<'_>, errors: &mut ErrorList) {
    errors.complaints(&At { path: at.path.clone(), value: as_text(at) }, is_qualified_name(at.text()));
}

/// What an attribute or a capacity is called: an identifier, with the domain of who defines it. What has more slashes is
/// let through, as upstream does.
pub(super) fn qualified(path: &Path, name: &str, errors: &mut ErrorList) {
    match *name.split('/').collect::<Vec<_>>() {
        [id] => identifier(path, id, errors),
        [domain, id] => {
            match domain {
                "" => errors.push(Error::invalid(path, "", "the domain must not be empty")),
                _ => named_driver(path, domain, errors),
            }
            match id {
                "" => errors.push(Error::invalid(path, "", "the name must not be empty")),
                _ => identifier(path, id, errors),
            }
        }
        _ => {}
    }
}

/// The same, where the domain must be there.
pub(super) fn fully_qualified(at: &At<'_>, errors: &mut ErrorList) {
    qualified(&at.path, at.text(), errors);
    if !at.text().contains('/') {
        errors.push(at.invalid("a fully qualified name must be a domain and a name separated by a slash"));
    }
}

fn identifier(path: &Path, id: &str, errors: &mut ErrorList) {
    if id.len() > MAX_IDENTIFIER {
        errors.push(Error::too_long(path, MAX_IDENTIFIER));
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = id.bytes().next().is_some_and(|first| word(first) && !first.is_ascii_digit());
    if !starts || !id.bytes().all(word) {
        errors.push(Error::invalid(path, id, IDENTIFIER));
    }
}

/// The number of a share, which is a UUID.
pub(super) fn uid(at: &At<'_>, errors: &mut ErrorList) {
    let text = at.text();
    if let Some(why) = no_uuid(text) {
        errors.push(at.invalid(format!("error validating uid: {why}")));
    } else if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        errors.push(at.invalid(NOT_NORMAL));
    }
}

/// Why a text is no UUID, in the words of upstream's library: it reads them with and without dashes, in braces and as URNs.
fn no_uuid(text: &str) -> Option<String> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let bad = || Some("invalid UUID format".to_owned());
    let bytes = text.as_bytes();
    let bytes = match bytes.len() {
        36 => bytes,
        45 if !bytes[..9].eq_ignore_ascii_case(b"urn:uuid:") => {
            return Some(format!("invalid urn prefix: {:?}", String::from_utf8_lossy(&bytes[..9])));
        }
        45 => &bytes[9..],
        38 if bytes[0] != b'{' || bytes[37] != b'}' => return Some("invalid bracketed UUID format".into()),
        38 => &bytes[1..37],
        32 => return if bytes.iter().all(u8::is_ascii_hexdigit) { None } else { bad() },
        length => return Some(format!("invalid UUID length: {length}")),
    };
    let fits = |(n, byte): (usize, &u8)| if DASHES.contains(&n) { *byte == b'-' } else { byte.is_ascii_hexdigit() };
    if bytes.iter().enumerate().all(fits) { None } else { bad() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(check: fn(&At<'_>, &mut ErrorList), text: &str) -> Vec<String> {
        let (object, mut errors) = (json!({ "a": text }), ErrorList::new());
        check(&At::field(&object, "a"), &mut errors);
        errors.iter().map(|error| error.error_body()).collect()
    }

    #[test]
    fn drivers_may_be_in_capitals_and_pools_have_parts() {
        assert!(said(driver, "GPU.example.com").is_empty() && said(pool, "a.b/c").is_empty());
        assert_eq!(said(driver, ""), ["Required value"]);
        assert_eq!(said(driver, &"a".repeat(64))[0], "Too long: may not be more than 63 bytes");
        assert!(said(pool, "a//B")[0].starts_with("Invalid value: \"\": a lowercase RFC 1123 subdomain"));
        assert!(said(pool, "a//B")[1].starts_with("Invalid value: \"B\":"));
    }

    #[test]
    fn attributes_are_identifiers_of_a_domain() {
        let said = |name: &str| {
            let mut errors = ErrorList::new();
            qualified(&Path::new("a"), name, &mut errors);
            errors.iter().map(|error| error.error_body()).collect::<Vec<_>>()
        };
        assert!(said("model").is_empty() && said("gpu.example.com/model_1").is_empty() && said("a/b/c").is_empty());
        assert_eq!(
            said("/"),
            ["Invalid value: \"\": the domain must not be empty", "Invalid value: \"\": the name must not be empty"]
        );
        assert!(said("1st")[0].starts_with("Invalid value: \"1st\": a valid C identifier"));
        assert_eq!(said(&"a".repeat(33)), ["Too long: may not be more than 32 bytes"]);
        assert!(super::tests::said(fully_qualified, "model")[0].contains("must be a domain and a name"));
    }

    #[test]
    fn shares_have_uuids() {
        let id = "c0a8000a-1b2c-4d5e-8f90-0123456789ab";
        assert!(said(uid, id).is_empty());
        for (text, why) in [
            ("x", "error validating uid: invalid UUID length: 1"),
            (&id.replace('-', "x"), "error validating uid: invalid UUID format"),
            (&format!("[{id}]"), "error validating uid: invalid bracketed UUID format"),
            (&format!("urn:uxid:{id}"), "error validating uid: invalid urn prefix: \"urn:uxid:\""),
            (&id.to_uppercase(), NOT_NORMAL),
            (&format!("{{{id}}}"), NOT_NORMAL),
            (&id.replace('-', ""), NOT_NORMAL),
        ] {
            assert_eq!(said(uid, text), [format!("Invalid value: {text:?}: {why}")]);
        }
    }
}
