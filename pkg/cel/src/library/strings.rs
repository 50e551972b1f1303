//! Strings of the extensions. Places are in characters.

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Evaluated, Value};

use super::formatting;

pub(super) fn declare(functions: &mut Functions, version: u32) {
    functions.declare("string_char_at_int", "string.charAt(int) -> string", |_, args| match args {
        [Value::String(text), Value::Int(at)] => char_at(text, *at),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("string_index_of_string", "string.indexOf(string) -> int", INDEX_OF);
    functions.declare("string_index_of_string_int", "string.indexOf(string, int) -> int", INDEX_OF);
    functions.declare("string_last_index_of_string", "string.lastIndexOf(string) -> int", LAST_INDEX_OF);
    functions.declare("string_last_index_of_string_int", "string.lastIndexOf(string, int) -> int", LAST_INDEX_OF);
    functions.declare("string_lower_ascii", "string.lowerAscii() -> string", |_, args| match args {
        [Value::String(text)] => Ok(Value::string(text.to_ascii_lowercase())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("string_replace_string_string", "string.replace(string, string) -> string", REPLACE);
    functions.declare("string_replace_string_string_int", "string.replace(string, string, int) -> string", REPLACE);
    functions.declare("string_split_string", "string.split(string) -> list<string>", SPLIT);
    functions.declare("string_split_string_int", "string.split(string, int) -> list<string>", SPLIT);
    functions.declare("string_substring_int", "string.substring(int) -> string", SUBSTRING);
    functions.declare("string_substring_int_int", "string.substring(int, int) -> string", SUBSTRING);
    functions.declare("string_trim", "string.trim() -> string", |_, args| match args {
        [Value::String(text)] => Ok(Value::string(text.trim())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("string_upper_ascii", "string.upperAscii() -> string", |_, args| match args {
        [Value::String(text)] => Ok(Value::string(text.to_ascii_uppercase())),
        _ => Err(EvalError::no_such_overload()),
    });
    if version >= 1 {
        functions.declare("string_format", "string.format(list<dyn>) -> string", |context, args| match args {
            [Value::String(text), Value::List(list)] => formatting::format(context, text, list).map(Value::string),
            _ => Err(EvalError::no_such_overload()),
        });
        functions.declare("strings_quote", "strings.quote(string) -> string", |_, args| match args {
            [Value::String(text)] => Ok(Value::string(quoted(text))),
            _ => Err(EvalError::no_such_overload()),
        });
    }
    functions.declare("list_join", "list<string>.join() -> string", JOIN);
    functions.declare("list_join_string", "list<string>.join(string) -> string", JOIN);
}

/// Quoted as CEL has it: only what has a letter is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn out_of_range(at: i64) -> EvalError {
    EvalError::new(format!("index out of range: {at}"))
}

fn char_at<'a>(text: &str, at: i64) -> Evaluated<'a> {
    let place = usize::try_from(at).map_err(|_| out_of_range(at))?;
    match text.chars().nth(place) {
        Some(c) => Ok(Value::string(c.to_string())),
        None if place == text.chars().count() => Ok(Value::string("")),
        None => Err(out_of_range(at)),
    }
}

const INDEX_OF: Implementation = |context, args| {
    let (text, part, offset) = match args {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, *offset),
        _ => return Err(EvalError::no_such_overload()),
    };
    context.step(text.len() / 64)?;
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    let start = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
    let Some((byte, _)) = text.char_indices().nth(start) else { return Ok(Value::Int(-1)) };
    let found = text[byte..].find(&**part).map(|at| text[..byte + at].chars().count() as i64);
    Ok(Value::Int(found.unwrap_or(-1)))
};

const LAST_INDEX_OF: Implementation = |context, args| {
    let (text, part, offset) = match args {
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, Some(*offset)),
        _ => return Err(EvalError::no_such_overload()),
    };
    context.step(text.len() / 64)?;
    let length = text.chars().count() as i64;
    if part.is_empty() {
        return Ok(Value::Int(offset.unwrap_or(length)));
    }
    if offset.is_none() && text.len() < part.len() {
        return Ok(Value::Int(-1));
    }
    let offset = offset.unwrap_or(length - 1);
    let start = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
    if offset >= length {
        return Ok(Value::Int(-1));
    }
    // What begins there or before.
    let end =
        text.char_indices().nth(start).map_or(text.len(), |(byte, _)| byte.saturating_add(part.len()).min(text.len()));
    let mut end = end;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(Value::Int(text[..end].rfind(&**part).map_or(-1, |at| text[..at].chars().count() as i64)))
};

const REPLACE: Implementation = |context, args| {
    let (text, old, new, count) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(count)] => (text, old, new, *count),
        _ => return Err(EvalError::no_such_overload()),
    };
    let possible = if old.is_empty() { text.chars().count() + 1 } else { text.len() / old.len() };
    let times = usize::try_from(count).unwrap_or(usize::MAX).min(possible);
    context.text(times.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(Value::string(text.replacen(&**old, new, times)))
};

const SPLIT: Implementation = |context, args| {
    let (text, separator, count) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(count)] => (text, separator, *count),
        _ => return Err(EvalError::no_such_overload()),
    };
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<Value<'_>> = if separator.is_empty() {
        let mut rest = &**text;
        let mut parts = Vec::new();
        while let Some(c) = rest.chars().next() {
            let length = if parts.len() + 1 == limit { rest.len() } else { c.len_utf8() };
            parts.push(Value::string(&rest[..length]));
            rest = &rest[length..];
        }
        parts
    } else {
        text.splitn(limit, &**separator).map(Value::string).collect()
    };
    context.step(parts.len() + text.len() / 64)?;
    Ok(Value::list(parts))
};

const SUBSTRING: Implementation = |_, args| {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return Err(EvalError::no_such_overload()),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(EvalError::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let place = |at: i64| -> Result<usize, EvalError> {
        let n = usize::try_from(at).map_err(|_| out_of_range(at))?;
        let mut ends = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
        ends.nth(n).ok_or_else(|| out_of_range(at))
    };
    let from = place(start)?;
    let to = end.map_or(Ok(text.len()), place)?;
    Ok(Value::string(&text[from..to]))
};

const JOIN: Implementation = |context, args| {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return Err(EvalError::no_such_overload()),
    };
    context.step(list.len())?;
    let mut out = String::new();
    for (n, element) in list.iter().enumerate() {
        if n > 0 {
            out.push_str(separator);
        }
        match element {
            Ok(Value::String(text)) => {
                context.text(text.len())?;
                out.push_str(&text);
            }
            Ok(other) => return Err(EvalError::new(format!("join: invalid input: {}", crate::value::plain(&other)))),
            Err(error) => return Err(EvalError::new(format!("join: invalid input: {error}"))),
        }
        context.text(separator.len())?;
    }
    Ok(Value::string(out))
};
