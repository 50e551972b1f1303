//! How Go words what is wrong with a pattern.
#![allow(clippy::unwrap_used)]
use super::*;

fn check(pattern: &str) -> Result<(), String> {
    compile(pattern).map(|_| ()).map_err(|err| err.to_string())
}
#[test]
fn patterns_are_judged_as_go_does() {
    for good in [
        "^[a-z]([-a-z0-9]*[a-z0-9])?$",
        "a{2,3}?",
        "a{,3}",
        "{",
        "(?i)a|b",
        "(?P<n>a)(?<m>b)",
        "(?i-s:a)",
        "a|",
        "(|a)*",
        r"\Qa+*\E+",
        r"[\d\p{Greek}[:alpha:]\-]",
        r"\pL\p{^Lu}\P{Letter}",
        "[]a]",
        "[^]a]",
        r"\x{10FFFF}\x41\012\_",
        "^*",
        "(a{100}){10}",
        "(?i)(?m)x",
        "()*",
        "",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for (bad, why) in [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("b[^", "missing closing ]: `[^`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*?b", "missing argument to repetition operator: `*?`"),
        ("(+)", "missing argument to repetition operator: `+`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?{2}b", "invalid nested repetition operator: `+?{2}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("a{99999999999999999999999}", "invalid repeat count: `{99999999999999999999999}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?P<a-b>c)", "invalid named capture: `(?P<a-b>`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P=a)", "invalid or unsupported Perl syntax: `(?P`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"\1", "invalid escape sequence: `\\1`"),
        (r"\y", "invalid escape sequence: `\\y`"),
        (r"\C", "invalid escape sequence: `\\C`"),
        (r"\xg1", "invalid escape sequence: `\\xg1`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:nope:]]", "invalid character class range: `[:nope:]`"),
        (r"\p{Nope}", "invalid character class range: `\\p{Nope}`"),
        (r"\pX", "invalid character class range: `\\pX`"),
        (r"[\b]", "invalid escape sequence: `\\b`"),
    ] {
        assert_eq!(check(bad).unwrap_err(), format!("error parsing regexp: {why}"), "{bad}");
    }
}

#[test]
fn what_is_too_deep_or_too_large_is_refused() {
    for pattern in [format!("{}a{}", "(".repeat(1001), ")".repeat(1001)), "(".repeat(100_000)] {
        assert!(check(&pattern).is_err());
    }
    let large = format!("({}){{1000}}", "a".repeat(4000));
    assert!(check(&large).unwrap_err().starts_with("error parsing regexp: expression too large: `(a"));
}
