//! The rules of the grammar.

use std::sync::Arc;

use super::lexer::{Lexeme, Token};
use super::syntax::EXPRESSION;
use super::{Parsed, Parser, literal};
use crate::ast::{Entry, Field, Id, Kind};
use crate::source::Offset;

/// Names that are kept for languages that CEL may be translated to.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Binds how strongly: `||` least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Relation,
    Sum,
    Product,
    Operand,
}

fn operator(token: Token) -> Option<(Level, &'static str)> {
    Some(match token {
        Token::Or => (Level::Or, "_||_"),
        Token::And => (Level::And, "_&&_"),
        Token::Equals => (Level::Relation, "_==_"),
        Token::NotEquals => (Level::Relation, "_!=_"),
        Token::In => (Level::Relation, "@in"),
        Token::Less => (Level::Relation, "_<_"),
        Token::LessEquals => (Level::Relation, "_<=_"),
        Token::GreaterEquals => (Level::Relation, "_>=_"),
        Token::Greater => (Level::Relation, "_>_"),
        Token::Plus => (Level::Sum, "_+_"),
        Token::Minus => (Level::Sum, "_-_"),
        Token::Star => (Level::Product, "_*_"),
        Token::Slash => (Level::Product, "_/_"),
        Token::Percent => (Level::Product, "_%_"),
        _ => return None,
    })
}

impl Parser<'_> {
    /// `a ? b : c`, or an operand of that.
    pub(super) fn expr(&mut self) -> Parsed<Id> {
        let depth = self.depth;
        self.enter(|depth| &mut depth.expr)?;
        let condition = self.operands(Level::Or)?;
        let Some(question) = self.eat(Token::Question) else {
            self.depth = depth;
            return Ok(condition);
        };
        let yes = self.operands(Level::Or)?;
        self.expect(Token::Colon)?;
        let no = self.expr()?;
        self.depth = depth;
        let id = self.call(question, "_?_:_", vec![condition, yes, no]);
        Ok(self.raise(id, [condition, yes, no], 1))
    }

    /// Operands with operators of a level and of those that bind more strongly; operators bind to the left.
    fn operands(&mut self, lowest: Level) -> Parsed<Id> {
        let depth = self.depth;
        if lowest <= Level::Relation {
            self.enter(|depth| &mut depth.relation)?;
        }
        self.enter(|depth| &mut depth.calc)?;
        let mut left = self.unary()?;
        while let Some((level, function)) = operator(self.peek()).filter(|(level, _)| *level >= lowest) {
            if level <= Level::And {
                left = self.logic(left, level, function)?;
                continue;
            }
            self.enter(|depth| if level == Level::Relation { &mut depth.relation } else { &mut depth.calc })?;
            let at = self.advance();
            let right = self.operands(tighter(level))?;
            let id = self.call(at, function, vec![left, right]);
            left = self.raise(id, [left, right], 1);
        }
        self.depth = depth;
        Ok(left)
    }

    /// `a || b || c` as a balanced tree: many operands make no deep one.
    fn logic(&mut self, first: Id, level: Level, function: &str) -> Parsed<Id> {
        let token = self.peek();
        let (mut terms, mut operators) = (vec![first], Vec::new());
        while let Some(at) = self.eat(token) {
            operators.push(at);
            let term = self.operands(tighter(level))?;
            terms.push(term);
        }
        Ok(self.balanced(function, &terms, &operators))
    }

    fn balanced(&mut self, function: &str, terms: &[Id], operators: &[Lexeme]) -> Id {
        if operators.is_empty() {
            return terms[0];
        }
        let middle = operators.len() / 2;
        let left = self.balanced(function, &terms[..=middle], &operators[..middle]);
        let right = self.balanced(function, &terms[middle + 1..], &operators[middle + 1..]);
        let id = self.call(operators[middle], function, vec![left, right]);
        self.raise(id, [left, right], 0)
    }

    fn unary(&mut self) -> Parsed<Id> {
        let at = self.lexeme(0);
        let (token, function) = match at.token {
            Token::Exclamation => (Token::Exclamation, "!_"),
            // A minus before a number belongs to the number.
            Token::Minus if !matches!(self.lexeme(1).token, Token::Int | Token::Float) => (Token::Minus, "-_"),
            _ => return self.member(),
        };
        let mut count = 0;
        while self.eat(token).is_some() {
            count += 1;
        }
        let operand = self.member()?;
        if count % 2 == 0 {
            return Ok(operand);
        }
        let id = self.call(at, function, vec![operand]);
        Ok(self.raise(id, [operand], 0))
    }

    /// An operand with what is selected from it, called on it or looked up in it.
    fn member(&mut self) -> Parsed<Id> {
        let depth = self.depth;
        self.enter(|depth| &mut depth.member)?;
        let mut operand = self.primary()?;
        loop {
            let at = self.lexeme(0);
            operand = match at.token {
                Token::Dot => {
                    self.enter(|depth| &mut depth.member)?;
                    self.advance();
                    self.selection(operand, at)?
                }
                Token::LeftBracket => {
                    self.enter(|depth| &mut depth.member)?;
                    self.advance();
                    self.index(operand, at)?
                }
                _ => break,
            };
        }
        self.depth = depth;
        Ok(operand)
    }

    fn selection(&mut self, operand: Id, dot: Lexeme) -> Parsed<Id> {
        let optional = self.eat(Token::Question);
        let name = self.lexeme(0);
        let field: Arc<str> = match name.token {
            Token::Identifier => {
                self.advance();
                Arc::from(self.slice(name))
            }
            Token::EscapedIdentifier => self.escaped_name(),
            _ if optional.is_some() => return self.mismatched(&[Token::Identifier, Token::EscapedIdentifier]),
            _ => return self.bad_field(dot.start),
        };
        if optional.is_some() {
            if !self.syntax.optional {
                return Ok(self.report(Offset::at(dot.start), "unsupported syntax '.?'"));
            }
            let field = self.add(name, Kind::Literal(crate::ast::Literal::String(field)));
            let id = self.call(dot, "_?._", vec![operand, field]);
            return Ok(self.raise(id, [operand], 1));
        }
        if name.token == Token::Identifier
            && let Some(open) = self.eat(Token::LeftParen)
        {
            let args = self.arguments()?;
            let below: Vec<Id> = args.iter().copied().chain([operand]).collect();
            let id = self.call_or_macro(open, &field, Some(operand), args);
            return Ok(self.raise(id, below, 1));
        }
        let id = self.add(dot, Kind::Select { operand, field, test_only: false });
        Ok(self.raise(id, [operand], 1))
    }

    /// A name in backquotes, without them.
    fn escaped_name(&mut self) -> Arc<str> {
        let lexeme = self.advance();
        if !self.syntax.escaped {
            self.error(Offset::at(lexeme.start), "unsupported syntax: '`'".to_owned());
        }
        Arc::from(self.slice(lexeme).trim_matches('`'))
    }

    fn index(&mut self, operand: Id, bracket: Lexeme) -> Parsed<Id> {
        let optional = self.eat(Token::Question);
        if optional.is_none() {
            self.sync(&with(EXPRESSION, &[Token::Question]))?;
        }
        let index = self.expr()?;
        self.expect(Token::RightBracket)?;
        if optional.is_some() && !self.syntax.optional {
            return Ok(self.report(Offset::at(bracket.start), "unsupported syntax '[?'"));
        }
        let id = self.call(bracket, if optional.is_some() { "_[?_]" } else { "_[_]" }, vec![operand, index]);
        Ok(self.raise(id, [operand, index], 1))
    }

    /// What stands in parentheses after the name of a function.
    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        self.sync(&with(EXPRESSION, &[Token::RightParen]))?;
        let mut args = Vec::new();
        if self.eat(Token::RightParen).is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.eat(Token::Comma).is_none() {
                break;
            }
        }
        self.expect(Token::RightParen)?;
        Ok(args)
    }

    fn primary(&mut self) -> Parsed<Id> {
        self.sync(EXPRESSION)?;
        let at = self.lexeme(0);
        match at.token {
            Token::LeftParen => {
                self.advance();
                let inner = self.expr()?;
                self.expect(Token::RightParen)?;
                Ok(inner)
            }
            Token::LeftBracket => self.list(),
            Token::LeftBrace => self.map(),
            Token::Dot | Token::Identifier => self.name(),
            _ => self.constant(),
        }
    }

    fn constant(&mut self) -> Parsed<Id> {
        use crate::ast::Literal;
        let start = self.advance();
        let mut lexeme = start;
        if start.token == Token::Minus {
            if !matches!(self.peek(), Token::Int | Token::Float) {
                return self.mismatched(EXPRESSION);
            }
            lexeme = self.advance();
        }
        let text = if start.token == Token::Minus {
            format!("-{}", self.slice(lexeme))
        } else {
            self.slice(lexeme).to_owned()
        };
        Ok(match lexeme.token {
            Token::Int => self.literal(start, literal::int(&text), "int"),
            Token::Uint => self.literal(start, literal::uint(&text), "uint"),
            Token::Float => self.literal(start, literal::double(&text), "double"),
            Token::True => self.literal(start, Some(Literal::Bool(true)), "bool"),
            Token::False => self.literal(start, Some(Literal::Bool(false)), "bool"),
            Token::Null => self.literal(start, Some(Literal::Null), "null"),
            token => {
                let read = if token == Token::Bytes { literal::bytes(&text[1..]) } else { literal::string(&text) };
                match read {
                    Ok(literal) => self.literal(start, Some(literal), "string"),
                    Err(message) => self.report(Offset::at(start.start), message),
                }
            }
        })
    }

    /// An identifier, a call, or a message: `a`, `a(b)`, `a.b.c{d: e}`.
    fn name(&mut self) -> Parsed<Id> {
        let dot = self.eat(Token::Dot);
        let Some(first) = self.eat(Token::Identifier) else { return self.mismatched(&[Token::Identifier]) };
        if let Some(name) = self.message_name(dot.is_some(), first) {
            return self.message(name);
        }
        let text = self.slice(first).to_owned();
        let name = if dot.is_some() { format!(".{text}") } else { text.clone() };
        let call = self.peek() == Token::LeftParen;
        if RESERVED.contains(&text.as_str()) {
            let start = dot.unwrap_or(first);
            if call {
                self.advance();
                self.arguments()?;
            }
            return Ok(self.report(Offset::at(start.start), format!("reserved identifier: {text}")));
        }
        if !call {
            return Ok(self.add(first, Kind::Ident(Arc::from(name))));
        }
        let open = self.advance();
        let args = self.arguments()?;
        let below = args.clone();
        let id = self.call_or_macro(open, &Arc::from(name), None, args);
        Ok(self.raise(id, below, 0))
    }

    /// The name of a message, if names with dots are followed by a brace.
    fn message_name(&mut self, absolute: bool, first: Lexeme) -> Option<Arc<str>> {
        let mut ahead = 0;
        while self.lexeme(ahead).token == Token::Dot && self.lexeme(ahead + 1).token == Token::Identifier {
            ahead += 2;
        }
        if self.lexeme(ahead).token != Token::LeftBrace {
            return None;
        }
        let mut name = if absolute { String::from(".") } else { String::new() };
        name.push_str(self.slice(first));
        for n in (1..ahead).step_by(2) {
            name.push('.');
            name.push_str(self.slice(self.lexeme(n)));
        }
        self.at += ahead;
        Some(Arc::from(name))
    }

    fn message(&mut self, name: Arc<str>) -> Parsed<Id> {
        let open = self.advance();
        let start = [Token::RightBrace, Token::Comma, Token::Question, Token::Identifier, Token::EscapedIdentifier];
        self.sync(&start)?;
        let mut fields = Vec::new();
        while matches!(self.peek(), Token::Question | Token::Identifier | Token::EscapedIdentifier) {
            let mark = self.eat(Token::Question);
            self.sync(&[Token::Identifier, Token::EscapedIdentifier])?;
            let name = if self.peek() == Token::EscapedIdentifier {
                self.escaped_name()
            } else {
                let lexeme = self.advance();
                Arc::from(self.slice(lexeme))
            };
            let colon = self.lexeme(0);
            self.expect(Token::Colon)?;
            let value = self.expr()?;
            let optional = self.optional_mark(mark);
            let id = self.add(colon, Kind::Nothing);
            fields.push(Field { id, name, value, optional });
            if self.eat(Token::Comma).is_none() {
                break;
            }
        }
        self.eat(Token::Comma);
        self.end_of(Token::RightBrace, fields.is_empty())?;
        let below: Vec<Id> = fields.iter().map(|field| field.value).collect();
        let id = self.add(open, Kind::Struct { name, fields });
        Ok(self.raise(id, below, 0))
    }

    fn optional_mark(&mut self, mark: Option<Lexeme>) -> bool {
        if let Some(mark) = mark.filter(|_| !self.syntax.optional) {
            self.error(Offset::at(mark.start), "unsupported syntax '?'".to_owned());
        }
        mark.is_some()
    }

    fn list(&mut self) -> Parsed<Id> {
        let open = self.advance();
        let start = with(EXPRESSION, &[Token::Question, Token::RightBracket, Token::Comma]);
        self.sync(&start)?;
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        while self.peek() == Token::Question || EXPRESSION.contains(&self.peek()) {
            let mark = self.eat(Token::Question);
            if self.optional_mark(mark) {
                optional.push(elements.len());
            }
            elements.push(self.expr()?);
            if self.eat(Token::Comma).is_none() {
                break;
            }
        }
        if elements.is_empty() {
            self.eat(Token::Comma);
        }
        self.end_of(Token::RightBracket, elements.is_empty())?;
        let below = elements.clone();
        let id = self.add(open, Kind::List { elements, optional });
        Ok(self.raise(id, below, 0))
    }

    fn map(&mut self) -> Parsed<Id> {
        let open = self.advance();
        let start = with(EXPRESSION, &[Token::Question, Token::RightBrace, Token::Comma]);
        self.sync(&start)?;
        let mut entries = Vec::new();
        while self.peek() == Token::Question || EXPRESSION.contains(&self.peek()) {
            let mark = self.eat(Token::Question);
            let key = self.expr()?;
            let colon = self.lexeme(0);
            self.expect(Token::Colon)?;
            let value = self.expr()?;
            let optional = self.optional_mark(mark);
            let id = self.add(colon, Kind::Nothing);
            entries.push(Entry { id, key, value, optional });
            if self.eat(Token::Comma).is_none() {
                break;
            }
        }
        if entries.is_empty() {
            self.eat(Token::Comma);
        }
        self.end_of(Token::RightBrace, entries.is_empty())?;
        let below: Vec<Id> = entries.iter().flat_map(|entry| [entry.key, entry.value]).collect();
        let id = self.add(open, Kind::Map(entries));
        Ok(self.raise(id, below, 0))
    }

    /// The end of a list, a map or a message; after a comma only the end may come.
    fn end_of(&mut self, close: Token, empty: bool) -> Parsed<()> {
        if self.eat(close).is_some() {
            return Ok(());
        }
        let after_comma = self.at > 0 && self.tokens.get(self.at - 1).is_some_and(|it| it.token == Token::Comma);
        let expected: &[Token] = if after_comma || empty { &[close] } else { &[close, Token::Comma] };
        self.sync(expected)?;
        self.expect(close)
    }
}

fn tighter(level: Level) -> Level {
    match level {
        Level::Or => Level::And,
        Level::And => Level::Relation,
        Level::Relation => Level::Sum,
        Level::Sum => Level::Product,
        Level::Product | Level::Operand => Level::Operand,
    }
}

fn with(tokens: &[Token], more: &[Token]) -> Vec<Token> {
    tokens.iter().chain(more).copied().collect()
}
