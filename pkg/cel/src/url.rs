//! URLs as Go's `net/url` reads them, with its errors.

use crate::value::{Url, quote};

/// Reads what can be in a request: an absolute URL, or a path. The error is Go's.
pub(crate) fn parse_request_uri(text: &str) -> Result<Url, String> {
    parse(text, true).map_err(|why| format!("parse {}: {why}", quote(text)))
}

/// Reads the same, and takes what follows two slashes for a host also where no scheme is before them.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    parse_request_uri(text)?;
    parse(text, false).map_err(|why| format!("parse {}: {why}", quote(text)))
}

fn parse(text: &str, request: bool) -> Result<Url, String> {
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() {
        return Err("empty url".to_owned());
    }
    let empty = || Box::<str>::from("");
    let mut url = Url { text: text.into(), scheme: empty(), host: empty(), escaped_path: empty(), query: empty() };
    if text == "*" {
        url.escaped_path = "*".into();
        return Ok(url);
    }
    let (scheme, rest) = scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase().into();
    // A fragment belongs to no request, but it is cut off when the parts are looked at.
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.query = query.into();
    if !rest.starts_with('/') {
        return if scheme.is_empty() { Err("invalid URI for request".to_owned()) } else { Ok(url) };
    }
    let mut path = rest;
    if let Some(after) =
        rest.strip_prefix("//").filter(|after| !scheme.is_empty() || !request && !after.starts_with('/'))
    {
        let end = after.find('/').unwrap_or(after.len());
        url.host = host(&after[..end])?.into();
        path = &after[end..];
    }
    url.escaped_path = escaped_path(path)?.into();
    Ok(url)
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// Undoes `%41`; the error is about what is no such escape.
pub(crate) fn unescape(text: &str, plus_is_space: bool) -> Result<String, String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(b) = bytes.get(at) {
        match b {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).filter(|it| it.iter().all(u8::is_ascii_hexdigit));
                let Some(digits) = digits else {
                    let shown = text.get(at..).map_or("", |rest| rest.get(..3).unwrap_or(rest));
                    return Err(format!("invalid URL escape {}", quote(shown)));
                };
                let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
                out.push(digit(digits[0]) << 4 | digit(digits[1]));
                at += 3;
            }
            b'+' if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            other => {
                out.push(*other);
                at += 1;
            }
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn host(authority: &str) -> Result<String, String> {
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let invalid_port = |port: &str| format!("invalid port {} after host", quote(port));
    let valid_port =
        |port: &str| port.is_empty() || port.strip_prefix(':').is_some_and(|it| it.bytes().all(|b| b.is_ascii_digit()));
    if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        let port = &host[end + 1..];
        if !valid_port(port) {
            return Err(invalid_port(port));
        }
    } else if let Some(at) = host.rfind(':')
        && !valid_port(&host[at..])
    {
        return Err(invalid_port(&host[at..]));
    }
    let allowed = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    if let Some(bad) = host.chars().find(|c| !allowed(*c)) {
        return Err(format!("invalid character {} in host name", quote(&bad.to_string())));
    }
    let host = unescape(host, false)?;
    if let Some(user) = user {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
        if !user.chars().all(allowed) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        unescape(user, false)?;
    }
    Ok(host)
}

/// The path with what must be escaped escaped.
fn escaped_path(path: &str) -> Result<String, String> {
    let plain = unescape(path, false)?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&b);
    if path.bytes().all(valid) {
        return Ok(path.to_owned());
    }
    let mut out = String::with_capacity(plain.len());
    for b in plain.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    Ok(out)
}
