//! Macros: `has`, `all`, `exists`, `exists_one`, `map`, `filter`, and what optional values bring.
//!
//! They are expanded where they are called; all nodes that they make are at the call's parenthesis. Hidden names begin with `@` or `#`, which
//! no text can write.

use std::sync::Arc;

use super::Parser;
use super::lexer::Lexeme;
use crate::ast::{Comprehension, Id, Kind, Literal};
use crate::source::Offset;

/// The name of what a comprehension accumulates.
pub(crate) const ACCUMULATOR: &str = "@result";
/// What it was called once: still not to be used as a variable.
const OLD_ACCUMULATOR: &str = "__result__";
/// A variable that is never read.
pub(crate) const UNUSED: &str = "#unused";

/// Which macros there are beside the standard ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MacroSet {
    /// The standard ones; without them calls stay calls.
    pub standard: bool,
    /// `optMap`, `optFlatMap`.
    pub optional: bool,
    /// `all`, `exists`, `existsOne` with two variables, `transformList`, `transformMap`, `transformMapEntry`.
    pub two_variables: bool,
    /// `cel.bind`.
    pub bind: bool,
    /// `sortBy`.
    pub sort_by: bool,
}

/// What a macro makes of its arguments: a node, an error with its place, or nothing because it was no call of the macro.
pub(super) type Expansion = Result<Option<Id>, (Offset, String)>;

/// Makes nodes at the place of one call.
pub(super) struct Maker<'p, 'a> {
    pub parser: &'p mut Parser<'a>,
    at: Offset,
}

impl Parser<'_> {
    pub(super) fn call_or_macro(&mut self, open: Lexeme, function: &Arc<str>, target: Option<Id>, args: Vec<Id>) -> Id {
        let at = Offset::at(open.start);
        match self.expand(at, function, target, &args) {
            Ok(Some(_)) if self.ast.is_full() => {
                self.report(at, "macros expand to a larger expression than is supported")
            }
            Ok(Some(id)) => id,
            Ok(None) => self.ast.add(at, Kind::Call { function: function.clone(), target, args }),
            Err((offset, message)) => self.report(offset, message),
        }
    }

    fn expand(&mut self, at: Offset, function: &str, target: Option<Id>, args: &[Id]) -> Expansion {
        let set = self.syntax.macros;
        let mut maker = Maker { parser: self, at };
        match (function, target, args) {
            ("has", None, [arg]) if set.standard => maker.has(*arg),
            ("all" | "exists" | "exists_one", Some(target), [variable, test]) if set.standard => {
                maker.quantifier(function, target, *variable, *test)
            }
            ("map", Some(target), [variable, to]) if set.standard => maker.map(target, *variable, None, *to),
            ("map", Some(target), [variable, test, to]) if set.standard => {
                maker.map(target, *variable, Some(*test), *to)
            }
            ("filter", Some(target), [variable, test]) if set.standard => maker.filter(target, *variable, *test),
            ("optMap" | "optFlatMap", Some(target), [variable, to]) if set.optional => {
                maker.optional(function, target, *variable, *to)
            }
            ("bind", Some(target), [variable, init, result]) if set.bind => {
                maker.bind(target, *variable, *init, *result)
            }
            ("sortBy", Some(target), [variable, key]) if set.sort_by => maker.sort_by(target, *variable, *key),
            (_, Some(target), [first, second, rest @ ..]) if set.two_variables => {
                maker.two_variables(function, target, [*first, *second], rest)
            }
            _ => Ok(None),
        }
    }
}

impl Maker<'_, '_> {
    pub(super) fn add(&mut self, kind: Kind) -> Id {
        self.parser.ast.add(self.at, kind)
    }

    pub(super) fn ident(&mut self, name: &str) -> Id {
        self.add(Kind::Ident(Arc::from(name)))
    }

    pub(super) fn accumulator(&mut self) -> Id {
        self.ident(ACCUMULATOR)
    }

    pub(super) fn literal(&mut self, literal: Literal) -> Id {
        self.add(Kind::Literal(literal))
    }

    pub(super) fn list(&mut self, elements: Vec<Id>) -> Id {
        self.add(Kind::List { elements, optional: Vec::new() })
    }

    pub(super) fn call(&mut self, function: &str, args: Vec<Id>) -> Id {
        self.add(Kind::Call { function: Arc::from(function), target: None, args })
    }

    pub(super) fn member(&mut self, function: &str, target: Id, args: Vec<Id>) -> Id {
        self.add(Kind::Call { function: Arc::from(function), target: Some(target), args })
    }

    pub(super) fn fold(&mut self, fold: Comprehension) -> Id {
        self.add(Kind::Comprehension(Box::new(fold)))
    }

    pub(super) fn error<T>(&self, id: Id, message: &str) -> Result<T, (Offset, String)> {
        Err((self.parser.ast.offset(id), message.to_owned()))
    }

    /// The name that an argument is.
    pub(super) fn name_of(&self, id: Id, otherwise: &str) -> Result<Arc<str>, (Offset, String)> {
        match self.parser.ast.kind(id) {
            Kind::Ident(name) => Ok(name.clone()),
            _ => self.error(id, otherwise),
        }
    }

    /// The name of a variable, which must not be that of the accumulator.
    pub(super) fn variable(&self, id: Id, otherwise: &str) -> Result<Arc<str>, (Offset, String)> {
        let name = self.name_of(id, otherwise)?;
        if is_accumulator(&name) {
            self.error(id, "iteration variable overwrites accumulator variable")
        } else {
            Ok(name)
        }
    }

    fn has(&mut self, arg: Id) -> Expansion {
        match self.parser.ast.kind(arg).clone() {
            Kind::Select { operand, field, test_only: false } => {
                Ok(Some(self.add(Kind::Select { operand, field, test_only: true })))
            }
            _ => self.error(arg, "invalid argument to has() macro"),
        }
    }

    fn quantifier(&mut self, function: &str, range: Id, variable: Id, test: Id) -> Expansion {
        let variable = self.variable(variable, "argument must be a simple name")?;
        let quantifier = self.quantified(function, test);
        let [init, condition, step, result] = quantifier;
        Ok(Some(self.one(range, variable, init, condition, step, result)))
    }

    /// Init, condition, step and result of a quantifier.
    pub(super) fn quantified(&mut self, function: &str, test: Id) -> [Id; 4] {
        let accumulator = self.accumulator();
        match function {
            "all" => {
                let init = self.literal(Literal::Bool(true));
                let condition = self.call("@not_strictly_false", vec![accumulator]);
                let again = self.accumulator();
                let step = self.call("_&&_", vec![again, test]);
                [init, condition, step, self.accumulator()]
            }
            "exists" => {
                let init = self.literal(Literal::Bool(false));
                let not = self.call("!_", vec![accumulator]);
                let condition = self.call("@not_strictly_false", vec![not]);
                let again = self.accumulator();
                let step = self.call("_||_", vec![again, test]);
                [init, condition, step, self.accumulator()]
            }
            _ => {
                let (init, one, same) =
                    (self.literal(Literal::Int(0)), self.literal(Literal::Int(1)), self.literal(Literal::Int(1)));
                let condition = self.literal(Literal::Bool(true));
                let more = self.call("_+_", vec![accumulator, one]);
                let step = self.otherwise_same(Some(test), more);
                let count = self.accumulator();
                [init, condition, step, self.call("_==_", vec![count, same])]
            }
        }
    }

    /// A step that is only taken when a test is passed.
    pub(super) fn otherwise_same(&mut self, test: Option<Id>, step: Id) -> Id {
        let Some(test) = test else { return step };
        let same = self.accumulator();
        self.call("_?_:_", vec![test, step, same])
    }

    /// Appends to the accumulated list.
    pub(super) fn append(&mut self, element: Id) -> Id {
        let accumulator = self.accumulator();
        let list = self.list(vec![element]);
        self.call("_+_", vec![accumulator, list])
    }

    fn one(&mut self, range: Id, variable: Arc<str>, init: Id, condition: Id, step: Id, result: Id) -> Id {
        let accumulator = Arc::from(ACCUMULATOR);
        self.fold(Comprehension { variable, second: None, range, accumulator, init, condition, step, result })
    }

    pub(super) fn map(&mut self, range: Id, variable: Id, test: Option<Id>, to: Id) -> Expansion {
        let variable = self.variable(variable, "argument is not an identifier")?;
        let init = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(true));
        let step = self.append(to);
        let step = self.otherwise_same(test, step);
        let result = self.accumulator();
        Ok(Some(self.one(range, variable, init, condition, step, result)))
    }

    fn filter(&mut self, range: Id, variable: Id, test: Id) -> Expansion {
        let name = self.variable(variable, "argument is not an identifier")?;
        let init = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(true));
        let step = self.append(variable);
        let step = self.otherwise_same(Some(test), step);
        let result = self.accumulator();
        Ok(Some(self.one(range, name, init, condition, step, result)))
    }
}

fn is_accumulator(name: &str) -> bool {
    name == ACCUMULATOR || name == OLD_ACCUMULATOR
}
