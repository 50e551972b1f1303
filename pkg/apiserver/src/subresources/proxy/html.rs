//! Pages on their way: the attributes of tags that hold links are looked at, everything else passes as it is.
//!
//! Invariants: the same bytes come out whatever the pieces in which they came in; what is kept back is at most one tag of
//! [`MAX_TAG`] bytes; a page without links of its own comes out as it was.

use super::rewrite::Links;

/// A longer tag passes unread.
const MAX_TAG: usize = 64 << 10;

/// Elements whose content is text up to their end tag.
const RAW: [&str; 10] =
    ["iframe", "noembed", "noframes", "noscript", "plaintext", "script", "style", "textarea", "title", "xmp"];

/// The attributes with links, by tag.
const ATTRIBUTES: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Where in a page the reader is.
enum Mode {
    Text,
    Comment,
    /// A declaration, an instruction or an end tag.
    Markup,
    /// The content of an element of [`RAW`].
    Raw(&'static str),
}

/// Rewrites one page, piece by piece.
pub(super) struct Page {
    links: Links,
    mode: Mode,
    kept: Vec<u8>,
}

impl Page {
    pub(super) fn new(links: Links) -> Self {
        Self { links, mode: Mode::Text, kept: Vec::new() }
    }

    /// Takes in a piece; adds to `out` what is certain.
    pub(super) fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.kept.extend_from_slice(piece);
        let input = std::mem::take(&mut self.kept);
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let taken = self.step(rest, out);
            if taken == 0 {
                break;
            }
            rest = &rest[taken..];
        }
        self.kept = rest.to_vec();
    }

    /// The end of the page: what was kept back was no tag.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.kept);
    }

    /// Passes on the beginning of `rest`, and returns how much; nothing when more must come first.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        match self.mode {
            Mode::Text => self.text(rest, out),
            Mode::Comment => self.until(rest, b"-->", out),
            Mode::Markup => self.until(rest, b">", out),
            Mode::Raw(name) => self.raw(rest, name, out),
        }
    }

    fn text(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let open = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
        if open > 0 {
            out.extend_from_slice(&rest[..open]);
            return open;
        }
        match rest.get(1) {
            None => 0,
            Some(b'!') if rest.len() < 4 && b"<!--".starts_with(rest) => 0,
            Some(b'!') if rest.starts_with(b"<!--") => {
                self.mode = Mode::Comment;
                pass(&rest[..4], out)
            }
            Some(b'!' | b'?' | b'/') => {
                self.mode = Mode::Markup;
                pass(&rest[..2], out)
            }
            Some(letter) if letter.is_ascii_alphabetic() => self.tag(rest, out),
            Some(_) => pass(&rest[..1], out),
        }
    }

    fn tag(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(tag) = Tag::read(rest) else {
            // What is too long to be read ends as any markup does.
            if rest.len() < MAX_TAG {
                return 0;
            }
            self.mode = Mode::Markup;
            return pass(rest, out);
        };
        let whole = &rest[..tag.end];
        let attributes = ATTRIBUTES.iter().find(|(name, _)| *name == tag.name).map_or(&[][..], |(_, names)| names);
        let mut at = 0;
        for value in tag.values.iter().filter(|value| attributes.contains(&value.attribute.as_str())) {
            let Ok(text) = std::str::from_utf8(&whole[value.start..value.end]) else { continue };
            let Some(new) = self.links.rewrite(unescape(text).trim()) else { continue };
            out.extend_from_slice(&whole[at..value.start]);
            let quote = if value.quoted { "" } else { "\"" };
            out.extend_from_slice(format!("{quote}{}{quote}", escape(&new)).as_bytes());
            at = value.end;
        }
        out.extend_from_slice(&whole[at..]);
        if let Some(raw) = RAW.iter().find(|raw| **raw == tag.name) {
            self.mode = Mode::Raw(raw);
        }
        tag.end
    }

    fn until(&mut self, rest: &[u8], end: &[u8], out: &mut Vec<u8>) -> usize {
        if let Some(at) = find(rest, end) {
            self.mode = Mode::Text;
            return pass(&rest[..at + end.len()], out);
        }
        pass(&rest[..rest.len().saturating_sub(end.len() - 1)], out)
    }

    fn raw(&mut self, rest: &[u8], name: &str, out: &mut Vec<u8>) -> usize {
        let end = format!("</{name}");
        let found = rest.windows(end.len()).position(|window| window.eq_ignore_ascii_case(end.as_bytes()));
        let Some(at) = found else { return pass(&rest[..rest.len().saturating_sub(end.len() - 1)], out) };
        let after = at + end.len();
        match rest.get(after) {
            None => pass(&rest[..at], out),
            Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0c | b'/' | b'>') => {
                self.mode = Mode::Markup;
                pass(&rest[..after], out)
            }
            Some(_) => pass(&rest[..after], out),
        }
    }
}

fn pass(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(bytes);
    bytes.len()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A start tag.
struct Tag {
    name: String,
    values: Vec<AttributeValue>,
    end: usize,
}

/// Where the value of an attribute is.
struct AttributeValue {
    attribute: String,
    start: usize,
    end: usize,
    quoted: bool,
}

impl Tag {
    /// The tag that begins here, if all of it is there.
    fn read(text: &[u8]) -> Option<Self> {
        let mut at = 1;
        let name = word(text, &mut at, b"/>")?;
        let mut values = Vec::new();
        loop {
            while matches!(text.get(at)?, b'/' | b' ' | b'\t' | b'\n' | b'\r' | 0x0c) {
                at += 1;
            }
            if text[at] == b'>' {
                return Some(Self { name, values, end: at + 1 });
            }
            // An equals sign at the beginning belongs to the name, so that each turn moves on.
            let first = at;
            at += 1;
            word(text, &mut at, b"/>=")?;
            let attribute = String::from_utf8_lossy(&text[first..at]).to_ascii_lowercase();
            skip_space(text, &mut at)?;
            if text[at] != b'=' {
                continue;
            }
            at += 1;
            skip_space(text, &mut at)?;
            let (start, end, quoted) = match text[at] {
                quote @ (b'"' | b'\'') => {
                    let start = at + 1;
                    let length = text[start..].iter().position(|b| *b == quote)?;
                    at = start + length + 1;
                    (start, start + length, true)
                }
                _ => {
                    let start = at;
                    word(text, &mut at, b">")?;
                    (start, at, false)
                }
            };
            values.push(AttributeValue { attribute, start, end, quoted });
        }
    }
}

/// Moves to the next space or one of `stops`, which must be there.
fn word(text: &[u8], at: &mut usize, stops: &[u8]) -> Option<String> {
    let start = *at;
    while !(text.get(*at)?.is_ascii_whitespace() || stops.contains(&text[*at])) {
        *at += 1;
    }
    Some(String::from_utf8_lossy(&text[start..*at]).to_ascii_lowercase())
}

fn skip_space(text: &[u8], at: &mut usize) -> Option<()> {
    while text.get(*at)?.is_ascii_whitespace() {
        *at += 1;
    }
    Some(())
}

/// The value of an attribute with the references that occur in links resolved; others stay as they are, and are escaped
/// again only together with a link that is rewritten.
fn unescape(text: &str) -> String {
    const NAMED: [(&str, &str); 11] = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#47;", "/"),
        ("&#x2F;", "/"),
        ("&#x2f;", "/"),
        ("&#38;", "&"),
        // The last, so that nothing is resolved twice.
        ("&amp;", "&"),
    ];
    if !text.contains('&') {
        return text.to_owned();
    }
    NAMED.iter().fold(text.to_owned(), |text, (reference, means)| text.replace(reference, means))
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
