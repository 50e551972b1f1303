//! What differs between any two servers, and between any two runs, is replaced by its name.

use http::HeaderMap;

use super::answer::{Answer, Content};
use super::node::Node;
use super::wire;

/// Headers whose values are compared.
const VALUES: [&str; 8] =
    ["content-type", "warning", "cache-control", "allow", "retry-after", "location", "www-authenticate", "vary"];
/// Headers that must be there or not.
const PRESENCE: [&str; 5] =
    ["etag", "last-modified", "audit-id", "x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid"];
/// What names that the server completes begin with, in all scenarios; five characters follow.
const GENERATED: [(&[u8], &str); 3] =
    [(b"gen-", "gen-SUFFIX"), (b"A_", "A_SUFFIX"), (b"kube-api-access-", "kube-api-access-SUFFIX")];
/// Services get addresses in here.
const SERVICES: &str = "10.43.";

/// An answer as it is compared. `tag` is what the run puts into its names.
pub fn answer(code: u16, headers: &HeaderMap, body: &[u8], watch: bool, tag: &str) -> Answer {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let text = |text: &str| plain(text, tag);
    let tree = |mut node: Node| {
        tidy(&mut node, "", tag);
        node
    };
    let content = if body.is_empty() {
        Content::Empty
    } else if kind.contains("protobuf") {
        wire_content(body, watch)
            .map_or_else(|| Content::Text(format!("{} bytes", body.len())), |n| Content::Wire(tree(n)))
    } else if watch && code == 200 && kind.contains("json") {
        let events = body.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        Content::Stream(events.map(|line| tree(Node::parse(line).unwrap_or(Node::Null))).collect())
    } else if let Some(node) = Node::parse(body).filter(|_| kind.contains("json")) {
        Content::Tree(tree(node))
    } else if let Some(node) = serde_yaml::from_slice(body).ok().filter(|_| kind.contains("yaml")) {
        Content::Tree(tree(node))
    } else {
        Content::Text(text(&String::from_utf8_lossy(body)))
    };
    let mut kept = Vec::new();
    for name in VALUES {
        let mut values: Vec<String> =
            headers.get_all(name).iter().map(|v| text(&String::from_utf8_lossy(v.as_bytes()))).collect();
        values.sort_unstable();
        kept.extend(values.into_iter().map(|value| (name.to_owned(), value)));
    }
    for name in PRESENCE {
        kept.extend(headers.contains_key(name).then(|| (name.to_owned(), "is there".to_owned())));
    }
    Answer { code, headers: kept, content }
}

/// A message, or the framed messages of a watch.
fn wire_content(mut body: &[u8], watch: bool) -> Option<Node> {
    if !watch {
        return wire::body(body);
    }
    let mut events = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        events.push(wire::message(frame, 0)?);
        body = rest;
    }
    Some(Node::List(events))
}

fn tidy(node: &mut Node, key: &str, tag: &str) {
    match node {
        Node::Object(fields) => {
            if key == "columnDefinitions" {
                // Columns are described in everybody's own words.
                fields.retain(|(key, _)| key != "description");
            }
            for (key, value) in fields {
                let name = key.clone();
                *key = plain(key, tag);
                tidy(value, &name, tag);
            }
        }
        Node::List(items) if key == "causes" => {
            // Upstream says some errors twice, once from each validation that walks over the metadata.
            let mut seen: Vec<Node> = Vec::new();
            for mut item in items.drain(..) {
                tidy(&mut item, key, tag);
                if !seen.contains(&item) {
                    seen.push(item);
                }
            }
            *items = seen;
        }
        Node::List(items) => {
            for item in items {
                tidy(item, key, tag);
            }
        }
        Node::Text(text) => *text = known(key, text).map_or_else(|| plain(text, tag), str::to_owned),
        Node::Number(number) => {
            let port = number.as_i64().is_some_and(|n| (30_000..32_768).contains(&n));
            if port && (matches!(key, "nodePort" | "healthCheckNodePort") || key.parse::<u32>().is_ok()) {
                *node = Node::Text("NODEPORT".to_owned());
            }
        }
        Node::Null | Node::Bool(_) => {}
    }
}

/// What is known by the name of its field.
fn known(key: &str, text: &str) -> Option<&'static str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match key {
        // By number: of an object, and of a list.
        "resourceVersion" | "2" | "6" if digits && text != "0" => Some("RV"),
        "continue" if !text.is_empty() => Some("CONTINUE"),
        "3" if text.starts_with("eyJ2IjoibWV0YS5rOHMuaW8v") => Some("CONTINUE"),
        "token" if text.matches('.').count() == 2 && text.len() > 100 => Some("TOKEN"),
        "serverAddress" => Some("ADDRESS"),
        "cells" if is_age(text) => Some("AGE"),
        _ => None,
    }
}

fn is_age(text: &str) -> bool {
    let bare = text.strip_suffix('s').unwrap_or_default();
    !bare.is_empty() && bare.len() < 4 && bare.bytes().all(|b| b.is_ascii_digit())
}

/// A text with tags, identities, moments, addresses and ports replaced.
fn plain(text: &str, tag: &str) -> String {
    let text = text.replace(tag, "TAG");
    let versions = text.contains("esource version") || text.contains("esourceVersion");
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let fresh = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let (length, name) = match fresh {
            true => [identity, moment, generated, address, scheme, digest].iter().find_map(|known| known(rest)),
            false => None,
        }
        .or_else(|| node_port(rest))
        .or_else(|| versions.then(|| number(rest)).flatten())
        .unwrap_or((0, ""));
        out.push_str(name);
        at += length;
        if length == 0 {
            let end = (at + 1..=bytes.len()).find(|&end| text.is_char_boundary(end)).unwrap_or(bytes.len());
            out.push_str(&text[at..end]);
            at = end;
        }
    }
    out
}

type Found = Option<(usize, &'static str)>;

fn identity(text: &[u8]) -> Found {
    let fits = text.len() >= 36
        && text[..36].iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    // Those that are made up begin with zeros.
    (fits && !text.starts_with(b"0000")).then_some((36, "UID"))
}

/// A moment of this run; those that requests name lie before.
fn moment(text: &[u8]) -> Found {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let fits = text.len() > SHAPE.len()
        && SHAPE.iter().zip(text).all(|(shape, b)| if *shape == b'0' { b.is_ascii_digit() } else { shape == b });
    if !fits || text[..4] < b"2026"[..] {
        return None;
    }
    let rest = &text[SHAPE.len()..];
    let fraction = rest.iter().take_while(|b| **b == b'.' || b.is_ascii_digit()).count();
    let zone = usize::from(rest.get(fraction) == Some(&b'Z'));
    Some((SHAPE.len() + fraction + zone, if fraction > 0 { "TIME.u" } else { "TIME" }))
}

fn generated(text: &[u8]) -> Found {
    let (begin, name) = GENERATED.into_iter().find(|(begin, _)| text.starts_with(begin))?;
    let length = begin.len() + 5;
    let known = b"bcdfghjklmnpqrstvwxz2456789";
    text.get(begin.len()..length)?.iter().all(|b| known.contains(b)).then_some((length, name))
}

fn address(text: &[u8]) -> Found {
    let rest = text.strip_prefix(SERVICES.as_bytes())?;
    let length = rest.iter().take_while(|b| **b == b'.' || b.is_ascii_digit()).count();
    (length >= 3 && rest.get(length) != Some(&b'/')).then_some((SERVICES.len() + length, "CLUSTERIP"))
}

/// A place in the server's source.
fn scheme(text: &[u8]) -> Found {
    let rest = text.strip_prefix(b"pkg/")?;
    let length = rest.iter().position(|b| *b == b'"')?;
    rest[..length].windows(11).any(|part| part == b"/scheme.go:").then_some((4 + length, "SCHEME"))
}

/// Of the client's certificate.
fn digest(text: &[u8]) -> Found {
    let rest = text.strip_prefix(b"X509SHA256=")?;
    let length = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    Some((11 + length, "X509SHA256=DIGEST"))
}

/// In a service's column: `80:31234/TCP`.
fn node_port(text: &[u8]) -> Found {
    let rest = text.strip_prefix(b":3")?;
    (rest.len() > 4 && rest[..4].iter().all(u8::is_ascii_digit) && rest[4] == b'/').then_some((6, ":NODEPORT"))
}

fn number(text: &[u8]) -> Found {
    let length = text.iter().take_while(|b| b.is_ascii_digit()).count();
    (length > 0).then_some((length, "N"))
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_changes_from_run_to_run_is_replaced() {
        for (text, expected) in [
            ("n-abcde is 0b6d1b2c-1111-2222-3333-444455556666", "n-TAG is UID"),
            ("at 2026-01-02T03:04:05Z or 2026-01-02T03:04:05.123456Z", "at TIME or TIME.u"),
            ("2001-01-02T03:04:05Z", "2001-01-02T03:04:05Z"),
            ("gen-x4z2b", "gen-SUFFIX"),
            ("10.43.1.200, 10.43.0.0/16", "CLUSTERIP, 10.43.0.0/16"),
            ("80:31234/TCP", "80:NODEPORT/TCP"),
            ("too old resource version: 12 (345)", "too old resource version: N (N)"),
            ("Größe 7", "Größe 7"),
        ] {
            assert_eq!(plain(text, "abcde"), expected);
        }
    }
}
