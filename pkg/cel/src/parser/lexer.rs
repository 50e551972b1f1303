//! Tokens of the grammar.
//!
//! Invariants: every byte of the text is in a token, in white space, in a comment or in an error; the last token is [`Token::End`].

use crate::source::{Offset, SourceError};

/// What a token is. Texts of literals are read by [`super::literal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    LeftBracket,
    RightBracket,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    Dot,
    Comma,
    Minus,
    Exclamation,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Identifier,
    EscapedIdentifier,
    End,
}

/// A token and its place in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lexeme {
    pub token: Token,
    pub start: usize,
    pub end: usize,
}

/// Cuts a text into tokens; what is none is an error, and left out.
pub(super) fn tokenize(text: &str) -> (Vec<Lexeme>, Vec<SourceError>) {
    let mut lexer = Lexer { text, at: 0 };
    let (mut tokens, mut errors) = (Vec::new(), Vec::new());
    loop {
        lexer.skip_hidden();
        let start = lexer.at;
        if start >= text.len() {
            tokens.push(Lexeme { token: Token::End, start, end: start });
            return (tokens, errors);
        }
        match lexer.next() {
            Some((token, end)) => {
                tokens.push(Lexeme { token, start, end });
                lexer.at = end;
            }
            None => {
                let end = lexer.end_of_error();
                let shown = text[start..end].replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
                let message = format!("Syntax error: token recognition error at: '{shown}'");
                errors.push(SourceError { offset: Offset::at(start), message });
                lexer.at = end;
            }
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_hidden(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Up to where a text was read that could have become a token: to the character after it.
    fn end_of_error(&self) -> usize {
        let rest = self.rest();
        let half = usize::from(rest.starts_with(['&', '|', '=']));
        let begun = partial_string(rest).or_else(|| partial_escaped(rest)).unwrap_or(half);
        let after = rest[begun..].chars().next().map_or(0, char::len_utf8);
        self.at + (begun + after).max(1).min(rest.len())
    }

    fn next(&self) -> Option<(Token, usize)> {
        let rest = self.rest();
        let (token, length) = string(rest)
            .or_else(|| number(rest))
            .or_else(|| identifier(rest))
            .or_else(|| escaped_identifier(rest))
            .or_else(|| operator(rest))?;
        Some((token, self.at + length))
    }
}

fn operator(rest: &str) -> Option<(Token, usize)> {
    const LONG: [(&str, Token); 6] = [
        ("==", Token::Equals),
        ("!=", Token::NotEquals),
        ("<=", Token::LessEquals),
        (">=", Token::GreaterEquals),
        ("&&", Token::And),
        ("||", Token::Or),
    ];
    if let Some((text, token)) = LONG.iter().find(|(text, _)| rest.starts_with(text)) {
        return Some((*token, text.len()));
    }
    let token = match rest.as_bytes().first()? {
        b'<' => Token::Less,
        b'>' => Token::Greater,
        b'[' => Token::LeftBracket,
        b']' => Token::RightBracket,
        b'{' => Token::LeftBrace,
        b'}' => Token::RightBrace,
        b'(' => Token::LeftParen,
        b')' => Token::RightParen,
        b'.' => Token::Dot,
        b',' => Token::Comma,
        b'-' => Token::Minus,
        b'!' => Token::Exclamation,
        b'?' => Token::Question,
        b':' => Token::Colon,
        b'+' => Token::Plus,
        b'*' => Token::Star,
        b'/' => Token::Slash,
        b'%' => Token::Percent,
        _ => return None,
    };
    Some((token, 1))
}

fn identifier(rest: &str) -> Option<(Token, usize)> {
    if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let token = match &rest[..length] {
        "in" => Token::In,
        "true" => Token::True,
        "false" => Token::False,
        "null" => Token::Null,
        _ => Token::Identifier,
    };
    Some((token, length))
}

fn is_escaped_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ')
}

fn escaped_identifier(rest: &str) -> Option<(Token, usize)> {
    let length = rest.strip_prefix('`')?.find(|c| !is_escaped_character(c))?;
    (length > 0 && rest[length + 1..].starts_with('`')).then_some((Token::EscapedIdentifier, length + 2))
}

fn partial_escaped(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('`')?;
    Some(1 + inner.find(|c| !is_escaped_character(c)).unwrap_or(inner.len()))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn number(rest: &str) -> Option<(Token, usize)> {
    let unsigned = |length: usize| match rest.as_bytes().get(length) {
        Some(b'u' | b'U') => (Token::Uint, length + 1),
        _ => (Token::Int, length),
    };
    if let Some(hex) = rest.strip_prefix("0x") {
        let length = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        if length > 0 {
            return Some(unsigned(length + 2));
        }
    }
    let whole = digits(rest);
    let fraction = rest[whole..].strip_prefix('.').map_or(0, digits);
    let mut end = if fraction > 0 { whole + 1 + fraction } else { whole };
    let exponent = exponent(&rest[end..]);
    end += exponent;
    match (whole > 0, fraction > 0 || exponent > 0) {
        (_, true) if end > exponent => Some((Token::Float, end)),
        (true, false) => Some(unsigned(whole)),
        _ => None,
    }
}

fn exponent(rest: &str) -> usize {
    let Some(after) = rest.strip_prefix(['e', 'E']) else { return 0 };
    let sign = usize::from(after.starts_with(['+', '-']));
    match digits(&after[sign..]) {
        0 => 0,
        count => 1 + sign + count,
    }
}

/// The letters before a quote: `r`, `b`, `br`; and whether backslashes are letters.
fn prefix(rest: &str) -> (usize, Token, bool) {
    let bytes = rest.as_bytes();
    let is = |at: usize, lower: u8| bytes.get(at).is_some_and(|b| b.eq_ignore_ascii_case(&lower));
    let binary = usize::from(is(0, b'b'));
    let raw = usize::from(is(binary, b'r'));
    (binary + raw, if binary == 1 { Token::Bytes } else { Token::String }, raw == 1)
}

fn string(rest: &str) -> Option<(Token, usize)> {
    let (letters, token, raw) = prefix(rest);
    let quoted = &rest[letters..];
    for triple in ["\"\"\"", "'''"] {
        if let Some(length) = quoted.strip_prefix(triple).and_then(|inner| closing(inner, triple, raw, true)) {
            return Some((token, letters + 3 + length));
        }
    }
    for single in ["\"", "'"] {
        if let Some(length) = quoted.strip_prefix(single).and_then(|inner| closing(inner, single, raw, false)) {
            return Some((token, letters + 1 + length));
        }
    }
    None
}

/// How far the text of a string goes, with its closing quotes.
fn closing(inner: &str, quotes: &str, raw: bool, lines: bool) -> Option<usize> {
    let mut at = 0;
    while at < inner.len() {
        let rest = &inner[at..];
        if rest.starts_with(quotes) {
            return Some(at + quotes.len());
        }
        if rest.starts_with('\\') && !raw {
            at += escape(rest)?;
            continue;
        }
        let c = rest.chars().next()?;
        if matches!(c, '\n' | '\r') && !lines {
            return None;
        }
        at += c.len_utf8();
    }
    None
}

/// The length of an escape sequence, where it is one.
fn escape(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let hex = |count: usize| bytes.len() >= 2 + count && bytes[2..2 + count].iter().all(u8::is_ascii_hexdigit);
    let length = match bytes.get(1)? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`' => 2,
        b'x' | b'X' if hex(2) => 4,
        b'u' if hex(4) => 6,
        b'U' if hex(8) => 10,
        b'0'..=b'3' if bytes.len() >= 4 && bytes[2..4].iter().all(|b| (b'0'..=b'7').contains(b)) => 4,
        _ => return None,
    };
    Some(length)
}

/// How far a string goes that is not closed.
fn partial_string(rest: &str) -> Option<usize> {
    let (letters, _, raw) = prefix(rest);
    let quoted = &rest[letters..];
    let (quotes, lines) =
        ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| quoted.starts_with(q)).map(|q| (q, q.len() == 3))?;
    let mut at = quotes.len();
    while let Some(c) = quoted[at..].chars().next() {
        if matches!(c, '\n' | '\r') && !lines {
            break;
        }
        let escaped = if c == '\\' && !raw { escape(&quoted[at..]) } else { Some(c.len_utf8()) };
        match escaped {
            Some(length) => at += length,
            None => {
                at += partial_escape(&quoted[at..]);
                break;
            }
        }
    }
    Some(letters + at)
}

/// How far an escape sequence goes that is none.
fn partial_escape(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |start: usize, most: usize, is: fn(&u8) -> bool| {
        bytes.iter().skip(start).take(most).take_while(|b| is(b)).count()
    };
    match bytes.get(1) {
        Some(b'x' | b'X') => 2 + digits(2, 2, u8::is_ascii_hexdigit),
        Some(b'u') => 2 + digits(2, 4, u8::is_ascii_hexdigit),
        Some(b'U') => 2 + digits(2, 8, u8::is_ascii_hexdigit),
        Some(b'0'..=b'3') => 2 + digits(2, 2, |b| (b'0'..=b'7').contains(b)),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Token> {
        tokenize(text).0.into_iter().map(|it| it.token).collect()
    }

    #[test]
    fn numbers_are_as_long_as_they_can_be() {
        assert_eq!(kinds("1 1u 0x1F 0xau 1.5 1e3 .5 1.5e-3 5."), {
            use Token::*;
            vec![Int, Uint, Int, Uint, Float, Float, Float, Float, Int, Dot, End]
        });
    }

    #[test]
    fn strings_may_be_raw_triple_and_bytes() {
        assert_eq!(kinds(r#"'a' "b" r'\' '''x'y''' b"c" bR'd' """""""#), {
            use Token::*;
            vec![String, String, String, String, Bytes, Bytes, String, End]
        });
    }

    #[test]
    fn what_is_no_token_is_an_error_with_its_place() {
        let (tokens, errors) = tokenize("a # b");
        assert_eq!(tokens.len(), 3);
        assert_eq!(errors[0].message, "Syntax error: token recognition error at: '#'");
    }
}
