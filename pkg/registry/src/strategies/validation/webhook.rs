//! Where a webhook is: the `clientConfig` of admission and of conversion.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::At;

const FORM: &str = "; desired format: https://host[/path]";

/// A `clientConfig`.
pub(crate) fn client(at: &At<'_>, errors: &mut ErrorList) {
    let (url, service) = (at.child("url"), at.child("service"));
    match (url.is_set(), service.is_set()) {
        (true, true) | (false, false) => errors.push(at.required("exactly one of url or service is required")),
        (true, false) => address(&url, errors),
        (false, true) => reference(&service, errors),
    }
}

fn address(at: &At<'_>, errors: &mut ErrorList) {
    let url = match Url::parse(at.text()) {
        Ok(url) => url,
        Err(why) => {
            let why = format!("url must be a valid URL: parse {:?}: {why}{FORM}", at.text());
            return errors.push(Error::required(&at.path, why));
        }
    };
    let mut complain = |value: &str, why: String| errors.push(Error::invalid(&at.path, value, why));
    if url.scheme != "https" {
        complain(&url.scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        complain(url.host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        complain(user, "user information is not permitted in the URL".to_owned());
    }
    if !url.fragment.is_empty() {
        complain(url.fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !url.query.is_empty() {
        complain(url.query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn reference(at: &At<'_>, errors: &mut ErrorList) {
    for field in ["name", "namespace"] {
        if at.child(field).text().is_empty() {
            errors.push(at.child(field).required(""));
        }
    }
    let port = at.child("port");
    let complaints = names::is_valid_port_num(port.int().unwrap_or_default());
    if !complaints.is_empty() {
        let why = format!("port is not valid: {}", complaints.join(", "));
        errors.push(Error::invalid(&port.path, port.int().unwrap_or_default(), why));
    }
    path(&at.child("path"), errors);
}

fn path(at: &At<'_>, errors: &mut ErrorList) {
    let text = at.text();
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return errors.push(at.invalid("segment[0] may not be empty"));
    }
    if !text.starts_with('/') {
        errors.push(at.invalid("must start with a '/'"));
    }
    // The first character is taken for the slash, whatever it is.
    let rest = text.char_indices().nth(1).map_or("", |(second, _)| &text[second..]);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (i, segment) in rest.split('/').enumerate() {
        if segment.is_empty() {
            errors.push(at.invalid(format!("segment[{i}] may not be empty")));
            continue;
        }
        for complaint in names::is_dns1123_subdomain(segment) {
            errors.push(at.invalid(format!("segment[{i}]: {complaint}")));
        }
    }
}

/// The parts of a URL, as Go tells them apart.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        if text.is_empty() {
            return if fragment.is_empty() { Err("empty url".to_owned()) } else { Ok(Self::nowhere(fragment)) };
        }
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self { scheme: scheme.to_ascii_lowercase(), query, ..Self::nowhere(fragment) };
        if !rest.starts_with('/') {
            let first = rest.split('/').next().unwrap_or_default();
            if scheme.is_empty() && first.contains(':') {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
            return Ok(url);
        }
        if let Some(rest) = rest.strip_prefix("//").filter(|rest| !scheme.is_empty() || !rest.starts_with('/')) {
            let authority = rest.split('/').next().unwrap_or_default();
            let (user, host) = match authority.rsplit_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, authority),
            };
            check_host(host)?;
            (url.user, url.host) = (user, host);
        }
        Ok(url)
    }

    fn nowhere(fragment: &'a str) -> Self {
        Self { scheme: String::new(), user: None, host: "", query: "", fragment }
    }
}

/// The scheme, which may be missing, and what follows it.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let bad = |c: char| !(c.is_ascii_alphanumeric() || !c.is_ascii() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c));
    if let Some(c) = host.chars().find(|c| bad(*c)) {
        return Err(format!("invalid character {:?} in host name", c.to_string()));
    }
    let after = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| "missing ']' in host".to_owned())?.1,
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let port = after.strip_prefix(':');
    if !after.is_empty() && !port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {after:?} after host"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn said(config: Value) -> Vec<String> {
        let (object, mut errors) = (json!({ "clientConfig": config }), ErrorList::new());
        client(&At::field(&object, "clientConfig"), &mut errors);
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
