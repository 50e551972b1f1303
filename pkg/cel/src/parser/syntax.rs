//! Errors of syntax, in upstream's words, and going on after them.

use super::lexer::Token;
use super::{Parsed, Parser, Stop};
use crate::source::Offset;

/// More errors than these are not listed: upstream stops there.
const MAX_SYNTAX_ERRORS: usize = 100;

/// With what an expression can begin.
pub(super) const EXPRESSION: &[Token] = &[
    Token::LeftBracket,
    Token::LeftBrace,
    Token::LeftParen,
    Token::Dot,
    Token::Minus,
    Token::Exclamation,
    Token::True,
    Token::False,
    Token::Null,
    Token::Float,
    Token::Int,
    Token::Uint,
    Token::String,
    Token::Bytes,
    Token::Identifier,
];

/// What can come after a whole operand.
const AFTER_OPERAND: &[Token] = &[
    Token::Equals,
    Token::NotEquals,
    Token::In,
    Token::Less,
    Token::LessEquals,
    Token::GreaterEquals,
    Token::Greater,
    Token::And,
    Token::Or,
    Token::LeftBracket,
    Token::RightBracket,
    Token::RightBrace,
    Token::RightParen,
    Token::Dot,
    Token::Comma,
    Token::Minus,
    Token::Question,
    Token::Colon,
    Token::Plus,
    Token::Star,
    Token::Slash,
    Token::Percent,
    Token::End,
];

fn name(token: Token) -> &'static str {
    match token {
        Token::Equals => "'=='",
        Token::NotEquals => "'!='",
        Token::In => "'in'",
        Token::Less => "'<'",
        Token::LessEquals => "'<='",
        Token::GreaterEquals => "'>='",
        Token::Greater => "'>'",
        Token::And => "'&&'",
        Token::Or => "'||'",
        Token::LeftBracket => "'['",
        Token::RightBracket => "']'",
        Token::LeftBrace => "'{'",
        Token::RightBrace => "'}'",
        Token::LeftParen => "'('",
        Token::RightParen => "')'",
        Token::Dot => "'.'",
        Token::Comma => "','",
        Token::Minus => "'-'",
        Token::Exclamation => "'!'",
        Token::Question => "'?'",
        Token::Colon => "':'",
        Token::Plus => "'+'",
        Token::Star => "'*'",
        Token::Slash => "'/'",
        Token::Percent => "'%'",
        Token::True => "'true'",
        Token::False => "'false'",
        Token::Null => "'null'",
        Token::Float => "NUM_FLOAT",
        Token::Int => "NUM_INT",
        Token::Uint => "NUM_UINT",
        Token::String => "STRING",
        Token::Bytes => "BYTES",
        Token::Identifier => "IDENTIFIER",
        Token::EscapedIdentifier => "ESC_IDENTIFIER",
        Token::End => "<EOF>",
    }
}

/// A set of tokens, in the order of their kinds.
fn names(tokens: &[Token]) -> String {
    let mut sorted = tokens.to_vec();
    sorted.sort_by_key(|token| *token as u8);
    sorted.dedup();
    let names: Vec<_> = sorted.into_iter().map(name).collect();
    if let [one] = names.as_slice() { (*one).to_owned() } else { format!("{{{}}}", names.join(", ")) }
}

impl Parser<'_> {
    fn shown(&self) -> String {
        let lexeme = self.lexeme(0);
        if lexeme.token == Token::End {
            "<EOF>".to_owned()
        } else {
            self.slice(lexeme).replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
        }
    }

    pub(super) fn syntax_error(&mut self, message: &str) -> Parsed<()> {
        let offset = Offset::at(self.lexeme(0).start);
        if self.errors.len() >= MAX_SYNTAX_ERRORS {
            self.error(offset, format!("Syntax error: More than {MAX_SYNTAX_ERRORS} syntax errors"));
            return Err(Stop);
        }
        self.error(offset, format!("Syntax error: {message}"));
        Ok(())
    }

    /// Ends parsing because the token is none of these.
    pub(super) fn mismatched<T>(&mut self, expected: &[Token]) -> Parsed<T> {
        let message = format!("mismatched input '{}' expecting {}", self.shown(), names(expected));
        self.syntax_error(&message)?;
        Err(Stop)
    }

    /// Goes on when the token is one of these, or is one too much before one of these.
    pub(super) fn sync(&mut self, expected: &[Token]) -> Parsed<()> {
        if expected.contains(&self.peek()) {
            return Ok(());
        }
        if self.peek() != Token::End && expected.contains(&self.lexeme(1).token) {
            let message = format!("extraneous input '{}' expecting {}", self.shown(), names(expected));
            self.syntax_error(&message)?;
            self.advance();
            return Ok(());
        }
        self.mismatched(expected)
    }

    /// Takes a token that must come; goes on without it when only it is missing.
    pub(super) fn expect(&mut self, token: Token) -> Parsed<()> {
        if self.peek() == token {
            self.advance();
            return Ok(());
        }
        let follow = if token == Token::Colon { EXPRESSION } else { AFTER_OPERAND };
        if self.peek() != Token::End && self.lexeme(1).token == token {
            let message = format!("extraneous input '{}' expecting {}", self.shown(), names(&[token]));
            self.syntax_error(&message)?;
            self.advance();
            self.advance();
            return Ok(());
        }
        if token != Token::End
            && follow.contains(&self.peek())
            && !(token == Token::RightBracket && self.peek() == Token::Comma)
        {
            let message = format!("missing {} at '{}'", name(token), self.shown());
            return self.syntax_error(&message);
        }
        self.mismatched(&[token])
    }

    /// What comes after a dot is no name.
    pub(super) fn bad_field<T>(&mut self, dot: usize) -> Parsed<T> {
        if matches!(self.peek(), Token::True | Token::False | Token::Null) {
            return self.mismatched(&[Token::Identifier]);
        }
        let shown = &self.text[dot..self.lexeme(0).end];
        let message = format!("no viable alternative at input '{}'", shown.trim_end());
        self.syntax_error(&message)?;
        Err(Stop)
    }
}
