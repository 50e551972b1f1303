//! Regular expressions as Go has them (RE2's), on Rust's engine.
//!
//! A pattern is read by Go's rules, with Go's errors, and written by Rust's: what `\d`, `\w`, `\s` and `\b` mean is ASCII, classes do not nest.
//! Invariants: matching takes time that is linear in the text; what a pattern compiles to is bounded.

mod class;
mod translate;

use std::fmt;

pub use regex::Regex;
use regex::RegexBuilder;

/// What a pattern may be compiled to; Go's limit is not in bytes, and this is above what it allows in practice.
const MAX_REGEX_SIZE: usize = 16 << 20;

/// Groups are nested at most so deep.
const MAX_NESTING: u32 = 200;

/// What is wrong with a pattern, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    what: &'static str,
    part: String,
}

impl PatternError {
    fn new(what: &'static str, part: &str) -> Self {
        Self { what, part: part.to_owned() }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error parsing regexp: {}: `{}`", self.what, self.part)
    }
}

impl std::error::Error for PatternError {}

/// Compiles a pattern.
///
/// # Errors
/// It is none, or too large.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    compile_within(pattern, MAX_REGEX_SIZE)
}

/// The same for a pattern that may take so many bytes at most: one that comes with data.
///
/// # Errors
/// As [`compile`].
pub fn compile_within(pattern: &str, limit: usize) -> Result<Regex, PatternError> {
    let translated = translate::translate(pattern)?;
    let built = RegexBuilder::new(&translated).size_limit(limit).nest_limit(MAX_NESTING + 50).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::new("expression too large", pattern),
        _ => PatternError::new("invalid character class range", pattern),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            ("^a.c$", "abc", true),
            ("^[0-9]+(-[0-9]+)?$", "123-456", true),
            (r"^\d+$", "\u{662}", false),
            (r"^\w$", "ä", false),
            (r"^\W$", "ä", true),
            (r"^[\W]$", "ä", true),
            (r"\bfoo\b", "a foo b", true),
            ("^[[:alpha:]_]+$", "ab_c", true),
            ("^[]a]+$", "]a", true),
            ("^[a&&b]+$", "a&b", true),
            ("^[a[b]+$", "a[b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            ("a{,2}", "a{,2}", true),
            ("(?i)ABC", "xabcx", true),
            ("^(?P<x>a|b)*$", "abab", true),
            (r"^\x41\x{42}\103$", "ABC", true),
            (r"^\pL+$", "aä", true),
            ("^a$", "a\n", false),
            ("x*?", "", true),
            ("[[:^alpha:]]", "1", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn errors_are_gos() {
        for (pattern, error) in [
            ("(abc", "missing closing ): `(abc`"),
            ("abc)", "unexpected ): `abc)`"),
            ("[a", "missing closing ]: `[a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"a\", "trailing backslash at end of expression: ``"),
            ("(?z)a", "invalid or unsupported Perl syntax: `(?z`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("[[:what:]]", "invalid character class range: `[:what:]`"),
        ] {
            assert_eq!(compile(pattern).unwrap_err().to_string(), format!("error parsing regexp: {error}"));
        }
    }

    /// The colon of `[:` was once taken for that of `:]`, and whoever sent `[[:]` ended the request in a panic.
    #[test]
    fn a_bracket_and_a_colon_are_a_class_of_two_characters() {
        let class = compile("^[[:]+$").unwrap();
        assert!(class.is_match("[:") && !class.is_match("]"));
        for (pattern, error) in [
            ("[[:]+:]", "invalid character class range: `[:]+:]`"),
            ("[[::]]", "invalid character class range: `[::]`"),
            ("[[:^^alpha:]]", "invalid character class range: `[:^^alpha:]`"),
            ("[[:", "missing closing ]: `[[:`"),
        ] {
            assert_eq!(compile(pattern).unwrap_err().to_string(), format!("error parsing regexp: {error}"));
        }
    }

    #[test]
    fn bombs_are_refused() {
        assert!(compile("((a{1000}){1000}){1000}").is_err());
        assert!(compile(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000))).is_err());
    }
}
#[cfg(test)]
mod judged_tests;
