//! Where a webhook is: what the `clientConfig`s of admission and of conversion have in common.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::{At, go_url};

/// A URL or a service of a `clientConfig`.
pub(crate) fn place(at: &At<'_>, errors: &mut ErrorList) {
    let (url, service) = (at.child("url"), at.child("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => self::url(&url, errors),
        (false, true) => self::service(&service, errors),
        _ => errors.push(at.required("exactly one of url or service is required")),
    }
}

fn url(at: &At<'_>, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match go_url::parse(at.text()) {
        Ok(url) => url,
        Err(why) => return errors.push(at.required(&format!("url must be a valid URL: {why}{FORM}"))),
    };
    let mut invalid = |value: &str, why: &str| errors.push(Error::invalid(&at.path, value, why));
    if url.scheme != "https" {
        invalid(&url.scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        invalid("", &format!("host must be specified{FORM}"));
    }
    if let Some(user) = &url.user {
        invalid(user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        invalid(&url.fragment, "fragments are not permitted in the URL");
    }
    if !url.query.is_empty() {
        invalid(&url.query, "query parameters are not permitted in the URL");
    }
}

fn service(at: &At<'_>, errors: &mut ErrorList) {
    // Upstream mistakes one for the other, and says that the other is missing.
    for (missing, named) in [("name", "namespace"), ("namespace", "name")] {
        if at.child(named).text().is_empty() {
            errors.push(at.child(missing).required(""));
        }
    }
    let port = at.child("port");
    let complaints = names::is_valid_port_num(port.int().unwrap_or(443));
    if !complaints.is_empty() {
        errors.push(port.invalid(format!("port is not valid: {}", complaints.join(", "))));
    }
    let path = at.child("path");
    match path.text() {
        "" | "/" => {}
        "//" => errors.push(path.invalid("segment[0] may not be empty")),
        text => path_segments(&path, text, errors),
    }
}

fn path_segments(path: &At<'_>, text: &str, errors: &mut ErrorList) {
    if !text.starts_with('/') {
        errors.push(path.invalid("must start with a '/'"));
    }
    // The first character is taken for a slash.
    let first = text.chars().next().map_or(0, char::len_utf8);
    let segments = text.get(first..).unwrap_or_default();
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    for (i, segment) in segments.split('/').enumerate() {
        if segment.is_empty() {
            errors.push(path.invalid(format!("segment[{i}] may not be empty")));
            continue;
        }
        for complaint in names::is_dns1123_subdomain(segment) {
            errors.push(path.invalid(format!("segment[{i}]: {complaint}")));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    const FORM: &str = "; desired format: https://host[/path]";
    use serde_json::{Value, json};

    fn said(config: Value) -> Vec<String> {
        let (object, mut errors) = (json!({ "clientConfig": config }), ErrorList::new());
        place(&At::field(&object, "clientConfig"), &mut errors);
        errors.iter().map(|error| error.to_string().trim_start_matches("clientConfig").to_owned()).collect()
    }

    fn of_url(url: &str) -> Vec<String> {
        said(json!({ "url": url }))
    }

    #[test]
    fn urls_are_read_as_go_reads_them() {
        for good in ["https://example.com", "https://127.0.0.1:8443/a", "https://[::1]:443/", "https://x/#"] {
            assert_eq!(of_url(good), [""; 0], "{good}");
        }
        let scheme = |was: &str| format!(".url: Invalid value: {was:?}: 'https' is the only allowed URL scheme{FORM}");
        let host = format!(".url: Invalid value: \"\": host must be specified{FORM}");
        assert_eq!(of_url("http://x"), [scheme("http")]);
        assert_eq!(of_url("example.com/a"), [scheme(""), host.clone()]);
        assert_eq!(of_url("localhost:443/a"), [scheme("localhost"), host.clone()]);
        assert_eq!(of_url("https:///a"), [host]);
        let colon = "first path segment in URL cannot contain colon";
        let invalid =
            |url: &str, why: &str| format!(".url: Required value: url must be a valid URL: parse {url:?}: {why}{FORM}");
        assert_eq!(of_url("127.0.0.1:443"), [invalid("127.0.0.1:443", colon)]);
        assert_eq!(of_url("https://x:a"), [invalid("https://x:a", "invalid port \":a\" after host")]);
        assert_eq!(
            of_url("https://u:p@x/a?b=c#d"),
            [
                ".url: Invalid value: \"u:p\": user information is not permitted in the URL",
                ".url: Invalid value: \"d\": fragments are not permitted in the URL",
                ".url: Invalid value: \"b=c\": query parameters are not permitted in the URL",
            ]
        );
    }

    #[test]
    fn services_are_named_with_a_path_of_segments() {
        let service = |path: &str| said(json!({"service": {"name": "s", "namespace": "n", "port": 443, "path": path}}));
        for good in ["", "/", "/a", "/a/b/"] {
            assert_eq!(service(good), [""; 0], "{good}");
        }
        let at = |path: &str, why: &str| format!(".service.path: Invalid value: {path:?}: {why}");
        assert_eq!(service("//"), [at("//", "segment[0] may not be empty")]);
        assert_eq!(service("a/b"), [at("a/b", "must start with a '/'"), at("a/b", "segment[0] may not be empty")]);
        assert_eq!(service("/a//b"), [at("/a//b", "segment[1] may not be empty")]);
        assert!(service("/A")[0].contains("segment[0]: a lowercase RFC 1123 subdomain"));
        let said = said(json!({"service": {"port": 0}}));
        assert_eq!(
            said,
            [
                ".service.name: Required value",
                ".service.namespace: Required value",
                ".service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ]
        );
    }

    #[test]
    fn one_of_both_it_is() {
        let both = said(json!({"url": "https://x", "service": {}}));
        assert_eq!(both, [": Required value: exactly one of url or service is required"]);
        assert_eq!(said(json!({})), both);
    }
}
