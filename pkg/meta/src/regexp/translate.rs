//! Reading a pattern by Go's rules, and writing it by Rust's.

use std::fmt::Write as _;

use super::{MAX_NESTING, PatternError, class};

/// No repetition may count further.
const MAX_REPEAT: u32 = 1000;

type Read<T> = Result<T, PatternError>;

pub(super) struct Reader<'p> {
    pub pattern: &'p str,
    pub at: usize,
}

impl<'p> Reader<'p> {
    pub fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// The number that an escape stands for, after its backslash and letter.
    pub fn code(&mut self, letter: char, start: usize) -> Read<char> {
        let bad = |end: usize| PatternError::new("invalid escape sequence", &self.pattern[start..end]);
        let (digits, base, end) = match letter {
            'x' if self.rest().starts_with('{') => {
                let inner = &self.rest()[1..];
                let length = inner.find('}').ok_or_else(|| bad(self.pattern.len()))?;
                (&inner[..length], 16, self.at + length + 2)
            }
            'x' => (self.rest().get(..2).ok_or_else(|| bad(self.pattern.len()))?, 16, self.at + 2),
            _ => {
                let length = self.rest().bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                // A single digit other than 0 would refer back, which is not supported.
                if letter != '0' && length == 0 {
                    return Err(bad(self.at));
                }
                (&self.pattern[self.at - 1..self.at + length], 8, self.at + length)
            }
        };
        let end = end.min(self.pattern.len());
        let value =
            u32::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with('+')).and_then(char::from_u32);
        let value = value.ok_or_else(|| bad(end))?;
        self.at = end;
        Ok(value)
    }
}

/// A character as it is.
pub(super) fn literal(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() {
        out.push(c);
    } else {
        let _ = write!(out, "\\x{{{:X}}}", c as u32);
    }
}

/// `d`, `s`, `w` and their opposites, for inside of a class.
pub(super) fn perl_class(c: char) -> Option<&'static str> {
    Some(match c {
        'd' => "0-9",
        'D' => "[^0-9]",
        's' => "\\t\\n\\f\\r\\x20",
        'S' => "[^\\t\\n\\f\\r\\x20]",
        'w' => "0-9A-Za-z_",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// The character of an escape that is one.
pub(super) fn simple_escape(c: char) -> Option<char> {
    Some(match c {
        'a' => '\u{7}',
        'f' => '\u{c}',
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'v' => '\u{b}',
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
        _ => return None,
    })
}

/// Writes a pattern as Rust reads it.
pub(super) fn translate(pattern: &str) -> Read<String> {
    let mut reader = Reader { pattern, at: 0 };
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut depth = 0_u32;
    // Where something begins that can be repeated, and where the last repetition began.
    let (mut operand, mut repeated): (bool, Option<usize>) = (false, None);
    while let Some(c) = reader.peek() {
        let start = reader.at;
        match c {
            '(' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Err(PatternError::new("expression nests too deeply", pattern));
                }
                let opened = group(&mut reader, &mut out)?;
                depth -= u32::from(!opened);
                operand = false;
                repeated = None;
                continue;
            }
            ')' => {
                reader.next();
                depth = depth.checked_sub(1).ok_or_else(|| PatternError::new("unexpected )", pattern))?;
                out.push(')');
            }
            '|' => {
                reader.next();
                out.push('|');
                (operand, repeated) = (false, None);
                continue;
            }
            '*' | '+' | '?' => {
                reader.next();
                repeat(&mut reader, &mut out, start, operand, &mut repeated, &c.to_string())?;
                continue;
            }
            '{' => {
                if let Some((text, valid)) = counted(&mut reader) {
                    if !valid {
                        return Err(PatternError::new("invalid repeat count", &text));
                    }
                    repeat(&mut reader, &mut out, start, operand, &mut repeated, &text)?;
                    continue;
                }
                reader.next();
                out.push_str("\\{");
            }
            '[' => class::translate(&mut reader, &mut out)?,
            '\\' => escape(&mut reader, &mut out)?,
            '^' | '$' | '.' => {
                reader.next();
                out.push(c);
            }
            c => {
                reader.next();
                literal(&mut out, c);
            }
        }
        (operand, repeated) = (true, None);
    }
    if depth > 0 { Err(PatternError::new("missing closing )", pattern)) } else { Ok(out) }
}

/// A repetition, which must repeat something that is not repeated yet.
fn repeat(
    reader: &mut Reader<'_>,
    out: &mut String,
    start: usize,
    operand: bool,
    repeated: &mut Option<usize>,
    text: &str,
) -> Read<()> {
    let lazy = reader.eat("?");
    let part = &reader.pattern[start..reader.at];
    if !operand {
        return Err(PatternError::new("missing argument to repetition operator", part));
    }
    if let Some(before) = *repeated {
        return Err(PatternError::new("invalid nested repetition operator", &reader.pattern[before..reader.at]));
    }
    *repeated = Some(start);
    out.push_str(text);
    if lazy {
        out.push('?');
    }
    Ok(())
}

/// `{2}`, `{2,}`, `{2,3}`, and whether the counts are allowed. Anything else is text.
fn counted(reader: &mut Reader<'_>) -> Option<(String, bool)> {
    let inner = reader.rest().strip_prefix('{')?;
    let inner = &inner[..inner.find('}')?];
    let (from, to) = match inner.split_once(',') {
        None => (inner, Some(inner)),
        Some((from, "")) => (from, None),
        Some((from, to)) => (from, Some(to)),
    };
    let digits = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'))
    };
    if !digits(from) || !to.is_none_or(digits) {
        return None;
    }
    let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    let valid =
        number(from) <= MAX_REPEAT && to.is_none_or(|to| number(to) <= MAX_REPEAT && number(from) <= number(to));
    let text = format!("{{{inner}}}");
    reader.at += text.len();
    Some((text, valid))
}

/// The beginning of a group, or flags; says whether a group was opened.
fn group(reader: &mut Reader<'_>, out: &mut String) -> Read<bool> {
    let start = reader.at;
    reader.next();
    if !reader.eat("?") {
        out.push('(');
        return Ok(true);
    }
    if reader.eat("P<")
        || (reader.rest().starts_with('<')
            && !reader.rest().starts_with("<=")
            && !reader.rest().starts_with("<!")
            && reader.eat("<"))
    {
        let rest = reader.rest();
        let whole = &reader.pattern[start..];
        let length = rest.find('>').ok_or_else(|| PatternError::new("invalid named capture", whole))?;
        let name = &rest[..length];
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(PatternError::new("invalid named capture", &reader.pattern[start..reader.at + length + 1]));
        }
        reader.at += length + 1;
        out.push('(');
        return Ok(true);
    }
    out.push_str("(?");
    let (mut negated, mut flags) = (false, false);
    while let Some(c) = reader.next() {
        match c {
            'i' | 'm' | 's' | 'U' => flags = true,
            '-' if !negated => {
                negated = true;
                flags = false;
            }
            ':' | ')' if flags || !negated => {
                // Flags that are none at all are nothing.
                if c == ')' && out.ends_with("(?") {
                    out.truncate(out.len() - 2);
                } else {
                    out.push(c);
                }
                return Ok(c == ':');
            }
            _ => {
                return Err(PatternError::new("invalid or unsupported Perl syntax", &reader.pattern[start..reader.at]));
            }
        }
        out.push(c);
    }
    Err(PatternError::new("missing closing )", reader.pattern))
}

fn escape(reader: &mut Reader<'_>, out: &mut String) -> Read<()> {
    let start = reader.at;
    reader.next();
    let Some(c) = reader.next() else { return Err(PatternError::new("trailing backslash at end of expression", "")) };
    match c {
        'A' | 'z' | 'B' => {
            out.push('\\');
            out.push(c);
        }
        'b' => out.push_str("(?-u:\\b)"),
        'Q' => {
            let length = reader.rest().find("\\E").unwrap_or(reader.rest().len());
            reader.rest()[..length].chars().for_each(|c| literal(out, c));
            reader.at += length;
            reader.eat("\\E");
        }
        'p' | 'P' => class::unicode(reader, out, c, start)?,
        'x' | '0'..='7' => {
            let code = reader.code(c, start)?;
            literal(out, code);
        }
        c => match (perl_class(c), simple_escape(c)) {
            (Some(class), _) => {
                let _ = write!(out, "[{class}]");
            }
            (None, Some(c)) => literal(out, c),
            (None, None) => {
                return Err(PatternError::new("invalid escape sequence", &reader.pattern[start..reader.at]));
            }
        },
    }
    Ok(())
}
