//! Whether a regular expression is one in Go's syntax (RE2's), and how Go words it when it is not.
//!
//! Invariant: no input makes it recurse; its time is linear in the input.

use super::pattern_classes as classes;

/// Most repetitions, of one operator and of those within each other.
const MOST_REPEATS: u64 = 1000;
/// Limits on what the expression grows to.
const MOST_HEIGHT: u32 = 1000;
const MOST_SIZE: u64 = (128 << 20) / 40;

/// Go's text for what is wrong with a pattern.
///
/// # Errors
/// That text.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let mut parser = Parser { whole: pattern, rest: pattern, groups: Vec::new(), here: Group::default() };
    parser.all().map_err(|(what, text)| format!("error parsing regexp: {what}: `{text}`"))
}

/// What is wrong, and with which part.
pub(super) type Fault<'p> = (&'static str, &'p str);

pub(super) const BAD_ESCAPE: &str = "invalid escape sequence";
pub(super) const BAD_RANGE: &str = "invalid character class range";
const NO_ARGUMENT: &str = "missing argument to repetition operator";
const BAD_REPEAT: &str = "invalid repeat count";

/// Something that can be repeated.
#[derive(Clone, Copy)]
struct Atom {
    /// The largest product of repetitions within each other.
    repeats: u64,
    height: u32,
    size: u64,
}

const CHARACTER: Atom = Atom { repeats: 1, height: 1, size: 1 };

/// An open group: what of it has been read.
#[derive(Default)]
struct Group {
    captures: bool,
    /// The atoms of the branch so far but the last.
    branch: Option<Atom>,
    last: Option<Atom>,
    /// The branches before.
    before: Option<Atom>,
}

fn joined(one: Option<Atom>, other: Atom) -> Atom {
    one.map_or(other, |one| Atom {
        repeats: one.repeats.max(other.repeats),
        height: one.height.max(other.height),
        size: one.size.saturating_add(other.size),
    })
}

impl Group {
    fn push(&mut self, atom: Atom) {
        if let Some(last) = self.last.replace(atom) {
            self.branch = Some(joined(self.branch, last));
        }
    }

    fn end_branch(&mut self) -> Atom {
        let mut atom = self.last.take().unwrap_or(CHARACTER);
        if let Some(branch) = self.branch.take() {
            atom = joined(Some(branch), atom);
            atom.height += u32::from(atom.height > 1);
        }
        atom
    }

    /// The next atom is of another branch.
    fn bar(&mut self) {
        let branch = self.end_branch();
        self.before = Some(joined(self.before, branch));
    }

    fn close(mut self) -> Atom {
        let branch = self.end_branch();
        let mut atom = joined(self.before, branch);
        atom.height += u32::from(self.before.is_some());
        if self.captures {
            (atom.height, atom.size) = (atom.height + 1, atom.size.saturating_add(2));
        }
        atom
    }
}

struct Parser<'p> {
    whole: &'p str,
    rest: &'p str,
    groups: Vec<Group>,
    here: Group,
}

impl<'p> Parser<'p> {
    fn all(&mut self) -> Result<(), Fault<'p>> {
        // The operator before this place, which must not be repeated.
        let mut repeated = "";
        while let Some(first) = self.rest.chars().next() {
            let at = self.rest;
            let mut operator = "";
            match first {
                '(' => self.open()?,
                '|' => {
                    self.here.bar();
                    self.skip(1);
                }
                ')' => self.close()?,
                '[' => {
                    self.rest = classes::class(self.rest)?;
                    self.here.push(CHARACTER);
                }
                '*' | '+' | '?' => {
                    self.skip(1);
                    self.repeat(None, at, repeated)?;
                    operator = at;
                }
                '{' => match bounds(self.rest) {
                    Some((least, most, after)) => {
                        self.rest = after;
                        let too_many = |n: u64| n > MOST_REPEATS;
                        if too_many(least) || most.is_some_and(|most| too_many(most) || most < least) {
                            return Err((BAD_REPEAT, before(at, after)));
                        }
                        self.repeat(Some((least, most)), at, repeated)?;
                        operator = at;
                    }
                    None => self.literal(first),
                },
                '\\' => self.escape()?,
                _ => self.literal(first),
            }
            repeated = operator;
        }
        if !self.groups.is_empty() {
            return Err(("missing closing )", self.whole));
        }
        let all = std::mem::take(&mut self.here).close();
        self.check_limits(all)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn literal(&mut self, c: char) {
        self.skip(c.len_utf8());
        self.here.push(CHARACTER);
    }

    fn check_limits(&self, atom: Atom) -> Result<(), Fault<'p>> {
        if atom.size > MOST_SIZE {
            return Err(("expression too large", self.whole));
        }
        if atom.height > MOST_HEIGHT {
            return Err(("expression nests too deeply", self.whole));
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Fault<'p>> {
        let Some(after) = self.rest.strip_prefix("(?") else {
            self.skip(1);
            self.enter(true);
            return Ok(());
        };
        let named = after.strip_prefix("P<").or_else(|| after.strip_prefix('<')).filter(|name| !name.is_empty());
        if let Some(name) = named {
            let wrong = "invalid named capture";
            let Some((name, rest)) = name.split_once('>') else { return Err((wrong, self.rest)) };
            if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
                return Err((wrong, before(self.rest, rest)));
            }
            self.rest = rest;
            self.enter(true);
            return Ok(());
        }
        let (mut negated, mut seen) = (false, false);
        let mut rest = after;
        while let Some(c) = rest.chars().next() {
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                'i' | 'm' | 's' | 'U' => seen = true,
                '-' if !negated => (negated, seen) = (true, false),
                ':' | ')' if !negated || seen => {
                    self.rest = rest;
                    if c == ':' {
                        self.enter(false);
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(("invalid or unsupported Perl syntax", before(self.rest, rest)))
    }

    fn enter(&mut self, captures: bool) {
        let outer = std::mem::replace(&mut self.here, Group { captures, ..Group::default() });
        self.groups.push(outer);
    }

    fn close(&mut self) -> Result<(), Fault<'p>> {
        let Some(outer) = self.groups.pop() else { return Err(("unexpected )", self.whole)) };
        let atom = std::mem::replace(&mut self.here, outer).close();
        self.check_limits(atom)?;
        self.here.push(atom);
        self.skip(1);
        Ok(())
    }

    /// The operator that begins at `at` has been read, but for a question mark that makes it reluctant.
    fn repeat(&mut self, bounds: Option<(u64, Option<u64>)>, at: &'p str, last: &'p str) -> Result<(), Fault<'p>> {
        if self.rest.starts_with('?') {
            self.skip(1);
        }
        if !last.is_empty() {
            return Err(("invalid nested repetition operator", before(last, self.rest)));
        }
        let Some(mut atom) = self.here.last else { return Err((NO_ARGUMENT, before(at, self.rest))) };
        atom.height += 1;
        match bounds {
            None => atom.size = atom.size.saturating_add(2),
            Some((least, most)) => {
                match most.unwrap_or(least) {
                    0 if most.is_some() => atom.repeats = 1,
                    times => atom.repeats = atom.repeats.saturating_mul(times.max(1)),
                }
                let counted = least >= 2 || most.is_some_and(|most| most >= 2);
                if counted && atom.repeats > MOST_REPEATS {
                    return Err((BAD_REPEAT, before(at, self.rest)));
                }
                atom.size = atom.size.saturating_mul(most.unwrap_or(least).max(1)).saturating_add(2);
            }
        }
        self.check_limits(atom)?;
        self.here.last = Some(atom);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Fault<'p>> {
        match self.rest.as_bytes().get(1) {
            Some(b'A' | b'b' | b'B' | b'z') => self.skip(2),
            Some(b'C') => return Err((BAD_ESCAPE, self.rest.get(..2).unwrap_or_default())),
            Some(b'Q') => {
                let quoted = self.rest.get(2..).unwrap_or_default();
                let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                self.rest = rest;
                literal.chars().for_each(|_| self.here.push(CHARACTER));
                return Ok(());
            }
            _ => self.rest = classes::escape(self.rest)?,
        }
        self.here.push(CHARACTER);
        Ok(())
    }
}

/// What of `text` stands before its end `rest`.
pub(super) fn before<'p>(text: &'p str, rest: &str) -> &'p str {
    text.get(..text.len().saturating_sub(rest.len())).unwrap_or(text)
}

/// `{2}`, `{2,}` or `{2,3}`, and what follows. Anything else is text.
fn bounds(text: &str) -> Option<(u64, Option<u64>, &str)> {
    let (least, rest) = number(text.strip_prefix('{')?)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, Some(least), rest));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, None, rest));
    }
    let (most, rest) = number(rest)?;
    Some((least, Some(most), rest.strip_prefix('}')?))
}

/// A number without leading zeros; a very large one is the largest.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u64::MAX), rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

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
            ("(a{100}){11}", "invalid repeat count: `{11}`"),
            ("a{99999999999999999999999}", "invalid repeat count: `{99999999999999999999999}`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
            ("(?<=a)", "invalid named capture: `(?<=a)`"),
            ("(?P<a-b>c)", "invalid named capture: `(?P<a-b>`"),
            ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
            ("(?P=a)", "invalid or unsupported Perl syntax: `(?P`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            (r"\1", "invalid escape sequence: `\\1`"),
            (r"\y", "invalid escape sequence: `\\y`"),
            (r"\C", "invalid escape sequence: `\\C`"),
            (r"\xg1", "invalid escape sequence: `\\xg1`"),
            (r"\x{110000}", "invalid escape sequence: `\\x{110000`"),
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
        let deep = format!("{}a{}", "(".repeat(1001), ")".repeat(1001));
        assert!(check(&deep).unwrap_err().starts_with("error parsing regexp: expression nests too deeply: `(("));
        let open = "(".repeat(1_000_000);
        assert!(check(&open).unwrap_err().contains("missing closing )"));
        let large = format!("({}){{1000}}", "a".repeat(4000));
        assert!(check(&large).unwrap_err().starts_with("error parsing regexp: expression too large: `(a"));
    }
}
