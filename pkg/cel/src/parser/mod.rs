//! From text to tree.
//!
//! One function a rule of the grammar; macros are expanded where they are called. Invariants: no text makes it panic; the depth of recursion
//! is bounded by [`MAX_RECURSION_DEPTH`]; a tree is only given back when there was no error. After an error that a token too much or too few
//! explains, parsing goes on, as upstream's does; after others it ends.

mod expression;
mod lexer;
mod literal;
mod macros;
mod macros_more;
mod syntax;

use std::sync::Arc;

use crate::ast::{Ast, Id, Kind, Literal};
use crate::limits::{MAX_EXPRESSION_SIZE, MAX_RECURSION_DEPTH};
use crate::source::{CompileErrors, Offset, Source, SourceError};
use lexer::{Lexeme, Token};
pub(crate) use macros::{ACCUMULATOR, MacroSet};

/// What of the grammar is on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Syntax {
    pub macros: MacroSet,
    /// `a.?b`, `a[?b]`, `[?a]`, `{?a: b}`.
    pub optional: bool,
    /// Fields in backquotes.
    pub escaped: bool,
}

/// Parses a text.
pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Ast, CompileErrors> {
    let source = Source::new(text);
    let size = text.chars().count();
    if size > MAX_EXPRESSION_SIZE {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_EXPRESSION_SIZE}");
        return Err(CompileErrors::new(&source, vec![SourceError { offset: Offset::NONE, message }]));
    }
    let (tokens, errors) = lexer::tokenize(text);
    let ast = Ast::new(source);
    let mut parser = Parser { text, syntax, tokens, at: 0, ast, errors, depth: Depth::default(), heights: Vec::new() };
    if let Ok(root) = parser.start() {
        parser.ast.set_root(root);
        if parser.height(root) > MAX_RECURSION_DEPTH {
            parser.error(Offset::NONE, "max recursion depth exceeded".to_owned());
        }
    }
    if parser.errors.is_empty() { Ok(parser.ast) } else { Err(CompileErrors::new(parser.ast.source(), parser.errors)) }
}

/// Parsing cannot go on; what is wrong is among the errors.
struct Stop;

type Parsed<T> = Result<T, Stop>;

/// How deep each rule is nested that can be: upstream counts them apart.
#[derive(Debug, Default, Clone, Copy)]
struct Depth {
    expr: u32,
    relation: u32,
    calc: u32,
    member: u32,
}

struct Parser<'a> {
    text: &'a str,
    syntax: Syntax,
    tokens: Vec<Lexeme>,
    at: usize,
    ast: Ast,
    errors: Vec<SourceError>,
    depth: Depth,
    /// How deep the tree is below each node, counted as upstream does: before macros are expanded.
    heights: Vec<u32>,
}

impl Parser<'_> {
    fn start(&mut self) -> Parsed<Id> {
        let root = self.expr()?;
        self.expect(Token::End)?;
        Ok(root)
    }

    fn peek(&self) -> Token {
        self.lexeme(0).token
    }

    /// The token so many further on; beyond the end it is the end.
    fn lexeme(&self, ahead: usize) -> Lexeme {
        let end = Lexeme { token: Token::End, start: self.text.len(), end: self.text.len() };
        self.tokens.get(self.at + ahead).copied().unwrap_or(end)
    }

    fn advance(&mut self) -> Lexeme {
        let lexeme = self.lexeme(0);
        self.at += 1;
        lexeme
    }

    /// Takes the token if it is this one.
    fn eat(&mut self, token: Token) -> Option<Lexeme> {
        (self.peek() == token && token != Token::End).then(|| self.advance())
    }

    fn slice(&self, lexeme: Lexeme) -> &str {
        &self.text[lexeme.start..lexeme.end]
    }

    fn add(&mut self, lexeme: Lexeme, kind: Kind) -> Id {
        self.ast.add(Offset::at(lexeme.start), kind)
    }

    fn error(&mut self, offset: Offset, message: String) {
        self.errors.push(SourceError { offset, message });
    }

    /// Says what is wrong with something that is whole in itself, and puts nothing in its place.
    fn report(&mut self, offset: Offset, message: impl Into<String>) -> Id {
        self.error(offset, message.into());
        self.ast.add(offset, Kind::Nothing)
    }

    fn height(&self, id: Id) -> u32 {
        self.heights.get(id.index()).copied().unwrap_or(0)
    }

    /// Notes that a node is one level above others.
    fn raise(&mut self, id: Id, below: impl IntoIterator<Item = Id>, levels: u32) -> Id {
        let highest = below.into_iter().map(|it| self.height(it)).max().unwrap_or(0);
        self.note(id, highest + levels)
    }

    fn note(&mut self, id: Id, height: u32) -> Id {
        if self.heights.len() <= id.index() {
            self.heights.resize(id.index() + 1, 0);
        }
        self.heights[id.index()] = height;
        id
    }

    /// Enters a rule that may be nested, unless it is too deep.
    fn enter(&mut self, rule: impl Fn(&mut Depth) -> &mut u32) -> Parsed<()> {
        let depth = rule(&mut self.depth);
        *depth += 1;
        if *depth > MAX_RECURSION_DEPTH {
            self.error(Offset::NONE, format!("expression recursion limit exceeded: {MAX_RECURSION_DEPTH}"));
            return Err(Stop);
        }
        Ok(())
    }

    /// A literal that may be none after all.
    fn literal(&mut self, start: Lexeme, literal: Option<Literal>, what: &str) -> Id {
        match literal {
            Some(literal) => self.add(start, Kind::Literal(literal)),
            None => self.report(Offset::at(start.start), format!("invalid {what} literal")),
        }
    }

    fn call(&mut self, at: Lexeme, function: &str, args: Vec<Id>) -> Id {
        self.add(at, Kind::Call { function: Arc::from(function), target: None, args })
    }
}
