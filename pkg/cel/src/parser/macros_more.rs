//! Macros of the extensions: two variables, `cel.bind`, `optMap`, `sortBy`.

use std::sync::Arc;

use super::macros::{ACCUMULATOR, Expansion, Maker, UNUSED};
use crate::ast::{Comprehension, Id, Kind, Literal};

impl Maker<'_, '_> {
    /// `variable` is `init` in `result`: a comprehension without elements, whose accumulator is the variable.
    pub(super) fn let_in(&mut self, variable: &Arc<str>, init: Id, result: Id) -> Id {
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.ident(variable);
        let accumulator = variable.clone();
        self.fold(Comprehension {
            variable: Arc::from(UNUSED),
            second: None,
            range,
            accumulator,
            init,
            condition,
            step,
            result,
        })
    }

    pub(super) fn bind(&mut self, target: Id, variable: Id, init: Id, result: Id) -> Expansion {
        if !matches!(self.parser.ast.kind(target), Kind::Ident(name) if &**name == "cel") {
            return Ok(None);
        }
        let variable = self.name_of(variable, "cel.bind() variable names must be simple identifiers")?;
        Ok(Some(self.let_in(&variable, init, result)))
    }

    /// `target.optMap(v, to)` is `target.hasValue() ? optional.of(let v = target.value() in to) : optional.none()`.
    pub(super) fn optional(&mut self, function: &str, target: Id, variable: Id, to: Id) -> Expansion {
        let variable = self.name_of(variable, &format!("{function}() variable name must be a simple identifier"))?;
        let has = self.member("hasValue", target, Vec::new());
        let again = self.parser.ast.copy(target);
        let value = self.member("value", again, Vec::new());
        let mut yes = self.let_in(&variable, value, to);
        if function == "optMap" {
            yes = self.call("optional.of", vec![yes]);
        }
        let no = self.call("optional.none", Vec::new());
        Ok(Some(self.call("_?_:_", vec![has, yes, no])))
    }

    /// Sorts by the keys that `map` makes.
    pub(super) fn sort_by(&mut self, target: Id, variable: Id, key: Id) -> Expansion {
        if matches!(self.parser.ast.kind(target), Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. } | Kind::Nothing)
        {
            return self.error(
                target,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
            );
        }
        let name: Arc<str> = Arc::from("@__sortBy_input__");
        let range = self.ident(&name);
        let Some(keys) = self.map(range, variable, None, key)? else { return Ok(None) };
        let input = self.ident(&name);
        let sorted = self.member("@sortByAssociatedKeys", input, vec![keys]);
        Ok(Some(self.let_in(&name, target, sorted)))
    }

    pub(super) fn two_variables(&mut self, function: &str, range: Id, variables: [Id; 2], rest: &[Id]) -> Expansion {
        let known = match rest.len() {
            1 => matches!(
                function,
                "all" | "exists" | "existsOne" | "exists_one" | "transformList" | "transformMap" | "transformMapEntry"
            ),
            2 => matches!(function, "transformList" | "transformMap" | "transformMapEntry"),
            _ => false,
        };
        if !known {
            return Ok(None);
        }
        let first = self.name_of(variables[0], "argument must be a simple name")?;
        let second = self.name_of(variables[1], "argument must be a simple name")?;
        if first == second {
            return self.error(variables[1], &format!("duplicate variable name: {first}"));
        }
        self.variable(variables[0], "")?;
        self.variable(variables[1], "")?;
        let (test, to) = if let [test, to] = rest { (Some(*test), *to) } else { (None, rest[0]) };
        let [init, condition, step, result] = if function.starts_with("transform") {
            self.transformed(function, &first, test, to)
        } else {
            self.quantified(function, to)
        };
        let accumulator = Arc::from(ACCUMULATOR);
        let fold =
            Comprehension { variable: first, second: Some(second), range, accumulator, init, condition, step, result };
        Ok(Some(self.fold(fold)))
    }

    fn transformed(&mut self, function: &str, key: &str, test: Option<Id>, to: Id) -> [Id; 4] {
        let condition = self.literal(Literal::Bool(true));
        let (init, step) = if function == "transformList" {
            (self.list(Vec::new()), self.append(to))
        } else {
            let accumulator = self.accumulator();
            let mut args = vec![accumulator];
            if function == "transformMap" {
                args.push(self.ident(key));
            }
            args.push(to);
            (self.add(Kind::Map(Vec::new())), self.call("cel.@mapInsert", args))
        };
        let step = self.otherwise_same(test, step);
        [init, condition, step, self.accumulator()]
    }
}
