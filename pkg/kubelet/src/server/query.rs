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
        self.first(name).filter(|v| !v.is_empty())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }

    /// Whether a stream is asked for: upstream's API server says so with `1`.
    pub(super) fn is_one(&self, name: &str) -> bool {
        self.first(name) == Some("1")
    }

    /// An option as upstream reads it: where it is, anything but `false` and `0` is true, also nothing.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| !(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// A number, if the parameter is there.
    ///
    /// # Errors
    /// When it is no number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, std::num::ParseIntError> {
        self.first(name).map(str::parse).transpose()
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
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
        assert!(query.is_one("tty") && !query.is_one("x"));
        assert_eq!(query.get("tail"), None);
        assert_eq!(query.number("tty"), Ok(Some(1)));
    }

    /// Clients write "yes" in many ways.
    #[test]
    fn options_are_read_as_upstream_reads_them() {
        let query = Query::parse(Some("a&b=&c=yes&d=True&e=1&f=0&g=false&h=FALSE&follow=false&follow=true&n=&m=x"));
        for yes in ["a", "b", "c", "d", "e"] {
            assert!(query.flag(yes), "{yes}");
        }
        for no in ["f", "g", "h", "follow", "absent"] {
            assert!(!query.flag(no), "{no}");
        }
        assert!(query.number("n").is_err() && query.number("m").is_err());
        assert_eq!(query.number("absent"), Ok(None));
    }
}
