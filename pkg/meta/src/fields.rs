//! Field selectors: `metadata.name=x,status.phase!=Running`.

/// One condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub field: String,
    pub value: String,
    pub equal: bool,
}

/// All requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
}

/// A field selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// Most requirements that one selector may have.
const MAX_REQUIREMENTS: usize = 100;

impl Selector {
    /// The value that a field must have, when the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// Reads the query form. `\,`, `\=` and `\\` stand for the plain characters in values.
    ///
    /// # Errors
    /// When a term has no operator, an escape is not one of those, or there are too many terms.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut requirements = Vec::new();
        for term in split_terms(text).into_iter().filter(|t| !t.is_empty()) {
            let Some(at) = term.find(['=', '!']) else {
                return Err(ParseError(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            let (field, rest) = term.split_at(at);
            let (equal, raw) = if let Some(raw) = rest.strip_prefix("!=") {
                (false, raw)
            } else if let Some(raw) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
                (true, raw)
            } else {
                return Err(ParseError(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            requirements.push(Requirement { field: field.to_owned(), value: unescape(raw)?, equal });
            if requirements.len() > MAX_REQUIREMENTS {
                return Err(ParseError(format!("a field selector may have at most {MAX_REQUIREMENTS} terms")));
            }
        }
        Ok(Self { requirements })
    }

    /// Whether it matches whatever there is.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object matches whose fields `get` looks up (absent fields are empty).
    pub fn matches(&self, get: impl Fn(&str) -> String) -> bool {
        self.requirements.iter().all(|r| (get(&r.field) == r.value) == r.equal)
    }

    /// The value that a field is required to have, if it is.
    pub fn requires(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(raw: &str) -> Result<String, ParseError> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(ParseError(format!("invalid field selector: invalid escape sequence: \\{other}")));
                }
            },
            ',' | '=' => {
                return Err(ParseError(format!("invalid field selector: unescaped character in value: {raw}")));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn terms_escapes_and_mistakes() {
        let s = Selector::parse(r"a=b,c!=d\,e,f==g").unwrap();
        assert_eq!(s.requires("a"), Some("b"));
        assert_eq!(s.requirements[1], Requirement { field: "c".into(), value: "d,e".into(), equal: false });
        assert!(s.matches(|f| {
            match f {
                "a" => "b",
                "f" => "g",
                _ => "",
            }
            .to_owned()
        }));
        assert!(Selector::parse("a").is_err());
        assert!(Selector::parse(r"a=b\x").is_err());
        assert!(Selector::parse("a=b=c").is_err());
        assert!(Selector::parse("").unwrap().is_everything());
    }
}
