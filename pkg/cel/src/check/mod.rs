//! Types of expressions, and which overloads of functions they call.
//!
//! Invariants: each node of a checked expression has a type; each call has the overloads that it may call, in the order of their declaration;
//! what has an error has the type that fits everywhere, so that one mistake is one error.

mod expressions;
mod unify;

use std::sync::Arc;

use crate::ast::{Ast, Id, Kind, Literal};
use crate::env::EnvInner;
use crate::functions::{Function, Overload};
use crate::source::{CompileErrors, SourceError};
use crate::types::Type;
use unify::Mapping;

/// What a name or a call refers to.
#[derive(Debug, Clone)]
pub(crate) enum Reference {
    /// A variable.
    Variable(Arc<str>),
    /// A type as a value.
    Type(Arc<Type>),
    /// A function, and the overloads that may be meant.
    Call { function: Arc<Function>, overloads: Box<[Arc<Overload>]> },
}

/// A checked expression.
#[derive(Debug)]
pub(crate) struct CheckedAst {
    pub ast: Ast,
    types: Vec<Type>,
    references: Vec<Option<Reference>>,
}

impl CheckedAst {
    /// The type of a node.
    pub fn type_of(&self, id: Id) -> &Type {
        self.types.get(id.index()).unwrap_or(&Type::Dyn)
    }

    /// What a node refers to.
    pub fn reference(&self, id: Id) -> Option<&Reference> {
        self.references.get(id.index())?.as_ref()
    }

    /// The ids of the overloads that a call may call.
    pub fn overloads(&self, id: Id) -> &[Arc<Overload>] {
        match self.reference(id) {
            Some(Reference::Call { overloads, .. }) => overloads,
            _ => &[],
        }
    }
}

/// Checks a tree.
pub(crate) fn check(ast: Ast, env: &EnvInner) -> Result<CheckedAst, CompileErrors> {
    let size = ast.len();
    let root = ast.root();
    let mut checker = Checker {
        ast,
        env,
        mapping: Mapping::default(),
        types: vec![Type::Error; size],
        references: vec![None; size],
        scopes: Vec::new(),
        errors: Vec::new(),
    };
    checker.check(root);
    if !checker.errors.is_empty() {
        return Err(CompileErrors::new(checker.ast.source(), checker.errors));
    }
    let mapping = checker.mapping;
    let types = checker.types.iter().map(|it| mapping.substitute(it, true)).collect();
    Ok(CheckedAst { ast: checker.ast, types, references: checker.references })
}

struct Checker<'e> {
    ast: Ast,
    env: &'e EnvInner,
    mapping: Mapping,
    types: Vec<Type>,
    references: Vec<Option<Reference>>,
    /// Variables of comprehensions, the innermost last.
    scopes: Vec<(Arc<str>, Type)>,
    errors: Vec<SourceError>,
}

impl Checker<'_> {
    fn error(&mut self, at: Id, message: String) {
        let offset = self.ast.offset(at);
        self.errors.push(SourceError { offset, message });
    }

    fn mismatch(&mut self, at: Id, expected: &Type, found: &Type) {
        self.error(at, format!("expected type '{expected}' but found '{found}'"));
    }

    fn undeclared(&mut self, at: Id, name: &str) {
        self.error(at, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn type_of(&self, id: Id) -> Type {
        self.types.get(id.index()).cloned().unwrap_or(Type::Error)
    }

    fn set_type(&mut self, id: Id, of: Type) {
        if let Some(place) = self.types.get_mut(id.index()) {
            *place = of;
        }
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        if let Some(place) = self.references.get_mut(id.index()) {
            *place = Some(reference);
        }
    }

    /// The type of a name, and what it is.
    fn look_up(&self, name: &str) -> Option<(Type, Reference)> {
        let absolute = name.strip_prefix('.');
        if absolute.is_none()
            && let Some((name, of)) = self.scopes.iter().rev().find(|(own, _)| **own == *name)
        {
            return Some((of.clone(), Reference::Variable(name.clone())));
        }
        let name = absolute.unwrap_or(name);
        if let Some(of) = self.env.variable(name) {
            return Some((of.clone(), Reference::Variable(Arc::from(name))));
        }
        let of = Arc::new(self.env.find_type(name)?);
        Some((Type::Type(Some(of.clone())), Reference::Type(of)))
    }

    fn check(&mut self, id: Id) {
        match self.ast.kind(id).clone() {
            Kind::Nothing => {}
            Kind::Literal(literal) => self.set_type(id, type_of_literal(&literal)),
            Kind::Ident(name) => match self.look_up(&name) {
                Some((of, reference)) => self.found_name(id, of, reference),
                None => self.undeclared(id, &name),
            },
            Kind::Select { operand, field, test_only } => self.check_select(id, operand, &field, test_only),
            Kind::Call { function, target, args } => self.check_call(id, &function, target, &args),
            Kind::List { elements, optional } => self.check_list(id, &elements, &optional),
            Kind::Map(entries) => self.check_map(id, &entries),
            Kind::Struct { name, fields } => self.check_struct(id, &name, &fields),
            Kind::Comprehension(comprehension) => self.check_comprehension(id, &comprehension),
        }
    }

    fn found_name(&mut self, id: Id, of: Type, reference: Reference) {
        if let Reference::Variable(name) = &reference {
            self.ast.replace(id, Kind::Ident(name.clone()));
        }
        self.set_type(id, of);
        self.refer(id, reference);
    }

    fn check_call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) {
        if name == "_?._" {
            return self.check_optional_select(id, args);
        }
        args.iter().for_each(|arg| self.check(*arg));
        let Some(target) = target else {
            let Some(function) = self.env.function(name.strip_prefix('.').unwrap_or(name)) else {
                return self.undeclared(id, name);
            };
            return self.resolve(id, &function, None, args);
        };
        if let Some(prefix) = self.ast.qualified_name(target) {
            let whole = format!("{prefix}.{name}");
            if let Some(function) = self.env.function(whole.strip_prefix('.').unwrap_or(&whole)) {
                self.ast.replace(id, Kind::Call { function: function.name.clone(), target: None, args: args.to_vec() });
                return self.resolve(id, &function, None, args);
            }
        }
        self.check(target);
        match self.env.function(name) {
            Some(function) => self.resolve(id, &function, Some(target), args),
            None => self.undeclared(id, name),
        }
    }

    /// Finds the overloads that a call can mean.
    fn resolve(&mut self, id: Id, function: &Arc<Function>, target: Option<Id>, args: &[Id]) {
        let types: Vec<Type> = target.iter().chain(args).map(|it| self.type_of(*it)).collect();
        if matches!(&*function.name, "_&&_" | "_||_") {
            return self.resolve_logic(id, function, args, &types);
        }
        let (mut overloads, mut result): (Vec<Arc<Overload>>, Option<Type>) = (Vec::new(), None);
        for overload in &function.overloads {
            if overload.member != target.is_some()
                || overload.args.len() != types.len()
                || self.env.is_off(overload.id, self.scopes.is_empty())
            {
                continue;
            }
            let fresh: Vec<(char, Type)> = overload.params.iter().map(|name| (*name, self.mapping.fresh())).collect();
            let find = |name: char| fresh.iter().find(|(own, _)| *own == name).map_or(Type::Dyn, |(_, it)| it.clone());
            let wanted: Vec<Type> = overload.args.iter().map(|it| it.with_params(&find)).collect();
            if !self.mapping.all_assignable(&types, &wanted) {
                continue;
            }
            overloads.push(overload.clone());
            let of = self.mapping.substitute(&overload.result.with_params(&find), false);
            result = Some(match result {
                None => of,
                Some(before) if before.is_dyn() || before == of => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = types.iter().map(|it| self.mapping.substitute(it, true).to_string()).collect();
            let signature = match (target, shown.as_slice()) {
                (Some(_), [first, rest @ ..]) => format!("{first}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            return self
                .error(id, format!("found no matching overload for '{}' applied to '{signature}'", function.name));
        };
        self.set_type(id, result);
        self.refer(id, Reference::Call { function: function.clone(), overloads: overloads.into() });
    }

    fn resolve_logic(&mut self, id: Id, function: &Arc<Function>, args: &[Id], types: &[Type]) {
        let before = self.errors.len();
        for (arg, of) in args.iter().zip(types) {
            if !self.mapping.assignable(of, &Type::Bool) {
                self.mismatch(*arg, &Type::Bool, of);
            }
        }
        if self.errors.len() == before {
            self.set_type(id, Type::Bool);
            self.refer(
                id,
                Reference::Call { function: function.clone(), overloads: function.overloads.clone().into() },
            );
        }
    }
}

fn type_of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
