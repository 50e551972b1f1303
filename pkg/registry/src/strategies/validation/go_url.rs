//! URLs as Go takes them apart, as far as rules look at them.

use std::net::Ipv6Addr;

/// The parts of a URL.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub scheme: String,
    pub host: String,
    /// As Go shows them; there may be an empty one.
    pub user: Option<String>,
    pub query: String,
    pub fragment: String,
}

/// Takes apart any URL.
///
/// # Errors
/// Go's text for what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let (head, fragment) = text.split_once('#').unwrap_or((text, ""));
    let mut url = parse_head(head, false).map_err(|why| format!("parse {head:?}: {why}"))?;
    check_escapes(fragment).map_err(|why| format!("parse {text:?}: {why}"))?;
    fragment.clone_into(&mut url.fragment);
    Ok(url)
}

/// Takes apart one as it stands in requests: absolute, or a path, and without a fragment.
///
/// # Errors
/// Go's text for what is wrong with it.
pub(crate) fn parse_request_uri(text: &str) -> Result<Url, String> {
    parse_head(text, true).map_err(|why| format!("parse {text:?}: {why}"))
}

fn parse_head(text: &str, request: bool) -> Result<Url, String> {
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() && request {
        return Err("empty url".to_owned());
    }
    let mut url = Url::default();
    if text == "*" {
        return Ok(url);
    }
    let (scheme, rest) = scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    query.clone_into(&mut url.query);
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            return Ok(url);
        }
        if request {
            return Err("invalid URI for request".to_owned());
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let mut path = rest;
    let authority = rest.strip_prefix("//");
    if let Some(authority) = authority.filter(|_| !url.scheme.is_empty() || (!request && !rest.starts_with("///"))) {
        let end = authority.find('/').unwrap_or(authority.len());
        let (authority, rest) = authority.split_at(end);
        path = rest;
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        url.host = self::host(&url.scheme, host)?;
        if let Some(user) = user {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !user.chars().all(allowed) {
                return Err("net/url: invalid userinfo".to_owned());
            }
            check_escapes(user)?;
            url.user = Some(user.to_owned());
        }
    }
    check_escapes(path)?;
    Ok(url)
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, c) in text.char_indices() {
        match c {
            c if c.is_ascii_alphabetic() => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn host(scheme: &str, text: &str) -> Result<String, String> {
    let port = |port: &str| match port.strip_prefix(':').is_none_or(|n| n.bytes().all(|b| b.is_ascii_digit())) {
        true if port.is_empty() || port.starts_with(':') => Ok(()),
        _ => Err(format!("invalid port {port:?} after host")),
    };
    match text.rfind('[') {
        Some(0) => {
            let Some(end) = text.rfind(']') else { return Err("missing ']' in host".to_owned()) };
            port(&text[end + 1..])?;
            let address = text[1..end].split("%25").next().unwrap_or_default();
            if address.parse::<Ipv6Addr>().is_err() {
                return Err(format!("invalid host: ParseAddr({address:?}): unable to parse IP"));
            }
        }
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {
            let strict = matches!(scheme, "http" | "https");
            if let Some(colon) = if strict { text.find(':') } else { text.rfind(':') } {
                port(&text[colon..])?;
            }
            let sign = |c: &char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"%".contains(*c);
            if let Some(c) = text.chars().find(sign) {
                return Err(format!("invalid character {:?} in host name", c.to_string()));
            }
            check_escapes(text)?;
        }
    }
    Ok(text.to_owned())
}

fn check_escapes(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        rest = &rest[at..];
        let digits = rest.as_bytes().get(1..3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = rest.chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
        rest = &rest[3..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn urls_are_taken_apart_as_go_does() {
        let url = parse("HTTPS://user:pw@example.com:443/a%20b?x=1#here").unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str()), ("https", "example.com:443"));
        assert_eq!((url.user.as_deref(), &*url.query, &*url.fragment), (Some("user:pw"), "x=1", "here"));
        assert_eq!(parse("https://[::1]:8443/").unwrap().host, "[::1]:8443");
        assert_eq!(parse("mailto:me").unwrap().scheme, "mailto");
        for (text, why) in [
            (":x", "missing protocol scheme"),
            ("1:x", "first path segment in URL cannot contain colon"),
            ("https://a b/", "invalid character \" \" in host name"),
            ("https://a:b/", "invalid port \":b\" after host"),
            ("https://a/%zz", "invalid URL escape \"%zz\""),
            ("https://[::1/", "missing ']' in host"),
            ("https://a\u{1}", "net/url: invalid control character in URL"),
        ] {
            assert_eq!(parse(text).unwrap_err(), format!("parse {text:?}: {why}"));
        }
        assert!(parse_request_uri("a/b").is_err());
        assert!(parse_request_uri("/a").unwrap().host.is_empty());
    }
}
