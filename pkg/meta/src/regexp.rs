//! Regular expressions as Go writes them: RE2, whose classes `\d`, `\w`, `\s` and whose `\b` know ASCII alone.
//!
//! Invariants: matching takes time linear in the text; an expression of more than [`MAX_SIZE`] bytes once compiled is refused.

use std::fmt::Write as _;

/// What a compiled expression may take.
const MAX_SIZE: usize = 4 << 20;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Regexp(regex::Regex);

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexpError(String);

impl Regexp {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is none, or too large.
    pub fn new(pattern: &str) -> Result<Self, RegexpError> {
        let mut builder = regex::RegexBuilder::new(&translate(pattern));
        let compiled = builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build();
        compiled.map(Self).map_err(|err| RegexpError(words(&err, pattern)))
    }

    /// Whether it matches somewhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The first match.
    pub fn find<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.0.find(text).map(|found| found.as_str())
    }

    /// All matches that do not overlap, in their order.
    pub fn find_iter<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.find_iter(text).map(|found| found.as_str())
    }

    /// The groups of the first match; the first is all of it.
    pub fn captures<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        self.0.captures(text).map(|groups| groups.iter().map(|group| group.map(|g| g.as_str())).collect())
    }
}

fn words(err: &regex::Error, pattern: &str) -> String {
    match err {
        regex::Error::CompiledTooBig(_) => "expression nests too deeply or repeats too much".to_owned(),
        // The library draws the expression and an arrow; its last line says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("{}: `{pattern}`", last.trim_start_matches("error: "))
        }
    }
}

/// The same expression for a library whose classes know all of Unicode.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped) => escape(&mut out, escaped, in_class),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first is meant as such.
                if characters.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            '[' if characters.peek() == Some(&':') => {
                // A named class, such as `[:alpha:]`, up to its end.
                out.push('[');
                for inner in characters.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            // Where the library would see an operation on classes, Go sees characters.
            '[' | '&' | '~' if in_class => {
                let _ = write!(out, "\\{character}");
            }
            // The end or the beginning of a range.
            '-' if in_class && characters.next_if_eq(&'-').is_some() => {
                out.push_str(if out.ends_with(['[', '^']) { r"\--" } else { r"-\-" });
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

fn escape(out: &mut String, escaped: char, in_class: bool) {
    let class = match escaped {
        'd' => "0-9",
        'D' => "^0-9",
        'w' => "0-9A-Za-z_",
        'W' => "^0-9A-Za-z_",
        's' => r"\t\n\f\r ",
        'S' => r"^\t\n\f\r ",
        'b' | 'B' if !in_class => {
            let _ = write!(out, r"(?-u:\{escaped})");
            return;
        }
        other => {
            let _ = write!(out, "\\{other}");
            return;
        }
    };
    // A class within a class is joined to it.
    let _ = write!(out, "[{class}]");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢٣", false),
            (r"^\w+$", "a_B9", true),
            (r"^\w+$", "é", false),
            (r"^[\w.-]+$", "a.b-c", true),
            (r"^[\D]+$", "abc", true),
            (r"^[^\s]+$", "a b", false),
            (r"^[]a]+$", "a]", true),
            (r"^[^]]+$", "a]", false),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[a&&b]+$", "&", true),
            (r"^[a[b]+$", "[", true),
            (r"^[+--]+$", ",", true),
            (r"\bfoo\b", "a foo b", true),
            (r"(?i)^HELLO$", "hello", true),
            (r"^\p{L}+$", "é", true),
            (r"^a{2,3}$", "aaaa", false),
            ("^/$|^.*", "x", true),
        ] {
            assert_eq!(Regexp::new(pattern).unwrap().is_match(text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused() {
        for wrong in ["(", "[", r"\", "(?=a)", r"(a)\1", "((((a{100}){100}){100}){100})"] {
            let err = Regexp::new(wrong).unwrap_err().to_string();
            assert!(err.starts_with("error parsing regexp: "), "{wrong}: {err}");
        }
    }
}
