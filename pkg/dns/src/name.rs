//! Domain names in wire form.
//!
//! Invariant: a [`Name`] is a sequence of labels of 1 to 63 bytes, without compression, that takes
//! at most 255 bytes with its root. Case is kept for answering and ignored in comparing.

use std::fmt;

/// The longest name in wire form, in bytes.
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

/// A domain name.
#[derive(Clone)]
pub struct Name {
    /// Length-prefixed labels and the root's zero byte.
    wire: Vec<u8>,
}

impl Name {
    /// The root.
    pub fn root() -> Self {
        Self { wire: vec![0] }
    }

    /// From labels, the leftmost first; `None` when one is empty or too long, or all are.
    pub fn from_labels<L: AsRef<[u8]>>(labels: impl IntoIterator<Item = L>) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            let label = label.as_ref();
            if label.is_empty() || label.len() > MAX_LABEL {
                return None;
            }
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        (wire.len() <= MAX_NAME).then_some(Self { wire })
    }

    /// From text with dots; a dot at the end makes no difference.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Some(Self::root());
        }
        Self::from_labels(text.split('.'))
    }

    /// Reads an uncompressed name at the start of `bytes`; the rest follows it.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut at = 0;
        loop {
            let length = usize::from(*bytes.get(at)?);
            if length > MAX_LABEL {
                return None;
            }
            at += 1 + length;
            if at > MAX_NAME || at > bytes.len() {
                return None;
            }
            if length == 0 {
                return Some((Self { wire: bytes[..at].to_vec() }, &bytes[at..]));
            }
        }
    }

    /// The wire form.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels, the leftmost first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.wire.as_slice();
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (label, next) = after.split_at_checked(usize::from(length))?;
            rest = next;
            (length != 0).then_some(label)
        })
    }

    /// The same name in lower case.
    pub fn to_lower(&self) -> Self {
        // Length bytes are below 64, where there are no letters.
        Self { wire: self.wire.to_ascii_lowercase() }
    }

    /// The labels as lower-case text; `None` when one is no ASCII text.
    pub fn text_labels(&self) -> Option<Vec<String>> {
        let text = |label: &[u8]| {
            let plain = label.iter().all(u8::is_ascii_graphic);
            plain.then(|| String::from_utf8_lossy(label).to_ascii_lowercase())
        };
        self.labels().map(text).collect()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            write!(f, "{}.", label.escape_ascii())?;
        }
        if self.wire.len() == 1 { f.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_and_wire_agree() {
        let name = Name::parse("Web.Default.svc.").unwrap();
        assert_eq!(name.wire(), b"\x03Web\x07Default\x03svc\0");
        assert_eq!(name.to_string(), "Web.Default.svc.");
        assert_eq!(name.text_labels().unwrap(), ["web", "default", "svc"]);
        assert_eq!(name, Name::parse("web.default.SVC").unwrap());
        assert_eq!(Name::root().to_string(), ".");
    }

    #[test]
    fn limits_hold() {
        assert!(Name::parse(&"a".repeat(64)).is_none());
        assert!(Name::parse("a..b").is_none());
        let long = vec!["a".repeat(63); 4].join(".");
        assert!(Name::parse(&long).is_none());
        assert!(Name::read(b"\x03ab").is_none());
        assert!(Name::read(b"\xc0\x0c").is_none(), "a pointer has no place in a question");
    }
}
