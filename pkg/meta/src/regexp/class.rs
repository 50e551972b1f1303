//! Classes of characters: `[a-z]`, `[[:alpha:]]`, `\p{Greek}`.

use super::PatternError;
use super::translate::{Reader, literal, perl_class, simple_escape};

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Reads from a bracket to its closing one.
pub(super) fn translate(reader: &mut Reader<'_>, out: &mut String) -> Result<(), PatternError> {
    let start = reader.at;
    let missing = || PatternError::new("missing closing ]", &reader.pattern[start..]);
    let missing = missing();
    reader.next();
    out.push('[');
    if reader.eat("^") {
        out.push('^');
    }
    let mut first = true;
    loop {
        match reader.peek() {
            None => return Err(missing),
            Some(']') if !first => break,
            Some(_) => item(reader, out, &missing)?,
        }
        first = false;
    }
    reader.next();
    out.push(']');
    Ok(())
}

fn item(reader: &mut Reader<'_>, out: &mut String, missing: &PatternError) -> Result<(), PatternError> {
    let start = reader.at;
    // The colon that opens a named class does not also close it: `[[:]` is a class of two characters.
    if let Some(inner) = reader.rest().strip_prefix("[:")
        && let Some(length) = inner.find(":]")
    {
        let (name, whole) = (&inner[..length], &reader.rest()[..length + 4]);
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(PatternError::new("invalid character class range", whole));
        }
        out.push_str(whole);
        reader.at += whole.len();
        return Ok(());
    }
    if reader.rest().starts_with('\\') {
        let next = reader.rest()[1..].chars().next();
        if let Some(class) = next.and_then(perl_class) {
            reader.at += 2;
            out.push_str(class);
            return Ok(());
        }
        if let Some(c @ ('p' | 'P')) = next {
            reader.at += 2;
            return unicode(reader, out, c, start);
        }
    }
    let from = character(reader, missing)?;
    let mut to = from;
    if reader.rest().starts_with('-') && !reader.rest().starts_with("-]") && reader.rest().len() > 1 {
        reader.next();
        to = character(reader, missing)?;
        if to < from {
            return Err(PatternError::new("invalid character class range", &reader.pattern[start..reader.at]));
        }
    }
    literal(out, from);
    if to != from {
        out.push('-');
        literal(out, to);
    }
    Ok(())
}

fn character(reader: &mut Reader<'_>, missing: &PatternError) -> Result<char, PatternError> {
    let start = reader.at;
    let c = reader.next().ok_or_else(|| missing.clone())?;
    if c != '\\' {
        return Ok(c);
    }
    let Some(c) = reader.next() else { return Err(PatternError::new("trailing backslash at end of expression", "")) };
    match c {
        'x' | '0'..='7' => reader.code(c, start),
        c => simple_escape(c)
            .ok_or_else(|| PatternError::new("invalid escape sequence", &reader.pattern[start..reader.at])),
    }
}

/// A class of Unicode: `\pL`, `\p{Lu}`, `\p{^Greek}`; what letter it began with says whether it is the opposite.
pub(super) fn unicode(
    reader: &mut Reader<'_>,
    out: &mut String,
    letter: char,
    start: usize,
) -> Result<(), PatternError> {
    let bad = |end: usize| PatternError::new("invalid character class range", &reader.pattern[start..end]);
    let rest = reader.rest();
    let (name, length) = match rest.strip_prefix('{') {
        Some(inner) => {
            let length = inner.find('}').ok_or_else(|| bad(reader.pattern.len()))?;
            (&inner[..length], length + 2)
        }
        None => {
            let c = rest.chars().next().ok_or_else(|| bad(reader.pattern.len()))?;
            (&rest[..c.len_utf8()], c.len_utf8())
        }
    };
    let (opposite, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') {
        return Err(bad(reader.at + length));
    }
    // What Rust does not know, Go does not either.
    let known =
        regex::Regex::new(&format!("\\p{{{name}}}")).is_ok() && name.starts_with(|c: char| c.is_ascii_uppercase());
    if !known {
        return Err(bad(reader.at + length));
    }
    out.push('\\');
    out.push(if (letter == 'P') != opposite { 'P' } else { 'p' });
    out.push('{');
    out.push_str(name);
    out.push('}');
    reader.at += length;
    Ok(())
}
