//! The query of a request, decoded.

use percent_encoding::percent_decode_str;

/// More parameters than any client sends.
const MAX: usize = 1024;

/// Names and values in their order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Query {
        let pairs = text.unwrap_or_default().split('&').filter(|p| !p.is_empty()).take(MAX);
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }

    /// `1` or `true`.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true" | "True" | "TRUE" | "t" | "T"))
    }

    /// A number, if the parameter is there.
    ///
    /// # Errors
    /// When it is no number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, std::num::ParseIntError> {
        self.get(name).map(str::parse).transpose()
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_encoded_and_empty() {
        let query = Query::parse(Some("command=ls&command=a%20b+c&tty=1&tail=&x"));
        assert_eq!(query.all("command"), ["ls", "a b c"]);
        assert!(query.flag("tty") && !query.flag("x"));
        assert_eq!(query.get("tail"), None);
        assert_eq!(query.number("tty"), Ok(Some(1)));
    }
}
