//! What types and fields mean, in words: for `kubectl explain`. The texts come from a dependency at build time.
//!
//! Invariant: they are kept deflated and are inflated only while a document is written; without them documents are
//! complete but for the words.

use flate2::read::DeflateDecoder;
use std::io::Read as _;
use std::ops::Range;

static DEFLATED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.bin"));
/// More than twice of what there is.
const MAX_INFLATED: u64 = 4 << 20;
const RECORD: char = '\u{1e}';
const UNIT: char = '\u{1f}';
/// Where the words for `apiVersion` and `kind` are found, which are the same for every kind.
const OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// The deflated texts.
pub(super) fn source() -> &'static [u8] {
    DEFLATED
}

/// The texts, readable.
#[derive(Default)]
pub(super) struct Descriptions {
    text: String,
    /// The records of each definition, sorted by its name.
    definitions: Vec<Range<usize>>,
}

impl Descriptions {
    pub fn load() -> Self {
        let mut text = String::new();
        if let Err(error) = DeflateDecoder::new(DEFLATED).take(MAX_INFLATED).read_to_string(&mut text) {
            // The blob is part of the binary; its reader is tested.
            debug_assert!(false, "descriptions: {error}");
            return Self::default();
        }
        Self::index(text)
    }

    fn index(text: String) -> Self {
        let mut starts = Vec::new();
        let mut at = 0;
        for record in text.split_inclusive(RECORD) {
            // No field begins with a capital T followed by a dotted name.
            if record.starts_with("Tio.") {
                starts.push(at);
            }
            at += record.len();
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let definitions = starts.iter().copied().zip(ends).map(|(from, to)| from..to).collect();
        Self { text, definitions }
    }

    fn records(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let title = |range: &Range<usize>| {
            let head = self.text.get(range.start + 1..range.end).unwrap_or_default();
            head.split(UNIT).next().unwrap_or_default()
        };
        let found = self.definitions.binary_search_by(|range| title(range).cmp(name)).ok();
        let text = found.and_then(|at| self.text.get(self.definitions.get(at)?.clone())).unwrap_or_default();
        text.split_terminator(RECORD).filter_map(|record| record.split_once(UNIT))
    }

    /// What a definition is.
    pub fn of_type(&self, name: &str) -> Option<String> {
        let own = self.records(name).next().map(|(_, text)| text.to_string()).filter(|text| !text.is_empty());
        // Lists have no structure of their own there.
        own.or_else(|| {
            let kind = name.rsplit('.').next()?.strip_suffix("List").filter(|kind| !kind.is_empty())?;
            self.has_texts().then(|| format!("{kind}List is a list of {kind} objects."))
        })
    }

    /// What a field of a definition is.
    pub fn of_field(&self, name: &str, field: &str) -> Option<String> {
        let own = self.records(name).skip(1).find(|(key, _)| *key == field).map(|(_, text)| text);
        let shared = || self.records(OPTIONS).skip(1).find(|(key, _)| *key == field).map(|(_, text)| text);
        let list = name.ends_with("List") && self.has_texts();
        own.or_else(|| match field {
            "apiVersion" | "kind" => shared(),
            "items" if list => Some("The objects of the list."),
            "metadata" if list => Some("Metadata of the list."),
            _ => None,
        })
        .filter(|text| !text.is_empty())
        .map(str::to_string)
    }

    fn has_texts(&self) -> bool {
        !self.definitions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found() {
        let descriptions = Descriptions::index(
            "Tio.a\u{1f}an A\u{1e}x\u{1f}the x\u{1e}Tio.b\u{1f}\u{1e}type\u{1f}the type\nof it\u{1e}".into(),
        );
        assert_eq!(descriptions.of_type("io.a").as_deref(), Some("an A"));
        assert_eq!(descriptions.of_type("io.b"), None);
        assert_eq!(descriptions.of_field("io.a", "x").as_deref(), Some("the x"));
        assert_eq!(descriptions.of_field("io.b", "type").as_deref(), Some("the type\nof it"));
        assert_eq!((descriptions.of_field("io.b", "x"), descriptions.of_type("io.c")), (None, None));
    }

    #[test]
    fn what_is_part_of_the_binary_is_readable_and_small() {
        let descriptions = Descriptions::load();
        assert!(DEFLATED.len() < 200 << 10, "{}", DEFLATED.len());
        if descriptions.has_texts() {
            assert!(descriptions.of_field("io.k8s.api.core.v1.PodSpec", "containers").is_some());
            assert!(descriptions.of_field("io.k8s.api.core.v1.Pod", "kind").is_some());
        }
    }
}
