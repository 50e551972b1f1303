//! Literals that cannot be what they are used as, and mixed lists.

use super::Base;
use crate::ast::{Ast, Id, Kind, Literal};
use crate::check::CheckedAst;
use crate::library::validate_format;
use crate::source::{CompileErrors, SourceError};
use crate::types::Type;
use crate::value::{Value, convert};
use kedge_meta::regexp;

/// Looks at literals; what it finds is as wrong as a type that does not fit.
pub(super) fn validate(checked: &CheckedAst, base: &Base) -> Result<(), CompileErrors> {
    let mut errors = Vec::new();
    let ast = &checked.ast;
    if base.validated {
        for function in ["duration", "timestamp", "matches"] {
            calls_of(ast, function, &mut |args| argument(ast, function, args, &mut errors));
        }
    }
    aggregates(checked, base.formats_validated, &mut errors);
    if base.formats_validated {
        calls(ast, |id, function, target, args| {
            if let ("format", Some(target), [list]) = (function, target, args) {
                format(checked, id, target, *list, &mut errors);
            }
        });
    }
    if errors.is_empty() { Ok(()) } else { Err(CompileErrors::new(ast.source(), errors)) }
}

/// Calls a function for each call: with its node, the function, the target and the arguments.
fn calls(ast: &Ast, mut visit: impl FnMut(Id, &str, Option<Id>, &[Id])) {
    ast.walk(ast.root(), &mut |id, kind| {
        if let Kind::Call { function, target, args } = kind {
            visit(id, function, *target, args);
        }
    });
}

fn calls_of(ast: &Ast, name: &str, visit: &mut dyn FnMut(&[Id])) {
    calls(ast, |_, function, _, args| {
        if function == name {
            visit(args);
        }
    });
}

fn error(ast: &Ast, at: Id, message: String) -> SourceError {
    SourceError { offset: ast.offset(at), message }
}

/// The first argument of a conversion or of `matches`, if it is a literal.
fn argument(ast: &Ast, function: &str, args: &[Id], errors: &mut Vec<SourceError>) {
    let Some(Kind::Literal(literal)) = args.first().map(|arg| ast.kind(*arg)) else { return };
    let good = match (function, literal) {
        ("duration", literal) => to(literal, &Type::Duration),
        ("timestamp", literal) => to(literal, &Type::Timestamp),
        (_, Literal::String(pattern)) => regexp::compile(pattern).is_ok(),
        _ => true,
    };
    if !good {
        errors.push(error(ast, args[0], format!("invalid {function} argument")));
    }
}

fn to(literal: &Literal, of: &Type) -> bool {
    match literal {
        Literal::String(text) => convert(&Value::borrowed(text), of).is_ok(),
        Literal::Int(number) => convert(&Value::Int(*number), of).is_ok(),
        _ => true,
    }
}

/// Elements of a list, keys of a map and its values are of one type each, but in what a format shows.
fn aggregates(checked: &CheckedAst, formats_exempt: bool, errors: &mut Vec<SourceError>) {
    let ast = &checked.ast;
    let (mut lists, mut maps) = (Vec::new(), Vec::new());
    collect(ast, ast.root(), formats_exempt, &mut lists, &mut maps);
    for list in lists {
        let Kind::List { elements, optional } = ast.kind(list) else { continue };
        let mut first: Option<Type> = None;
        for (n, element) in elements.iter().enumerate() {
            let of = unwrapped(checked, *element, optional.contains(&n));
            match &first {
                None => first = Some(of),
                Some(first) if *first == of => {}
                Some(first) => {
                    errors.push(error(ast, *element, format!("expected type '{first}' but found '{of}'")));
                    break;
                }
            }
        }
    }
    for map in maps {
        let Kind::Map(entries) = ast.kind(map) else { continue };
        let Some((first, rest)) = entries.split_first() else { continue };
        let (key, value) = (checked.type_of(first.key), unwrapped(checked, first.value, first.optional));
        for entry in rest {
            let (other, of) = (checked.type_of(entry.key), unwrapped(checked, entry.value, entry.optional));
            if key != other {
                errors.push(error(ast, entry.key, format!("expected type '{key}' but found '{other}'")));
            }
            if value != of {
                errors.push(error(ast, entry.value, format!("expected type '{value}' but found '{of}'")));
            }
        }
    }
}

fn unwrapped(checked: &CheckedAst, id: Id, optional: bool) -> Type {
    let of = checked.type_of(id);
    if optional { of.optional_of().unwrap_or(of).clone() } else { of.clone() }
}

fn collect(ast: &Ast, id: Id, formats_exempt: bool, lists: &mut Vec<Id>, maps: &mut Vec<Id>) {
    let kind = ast.kind(id);
    match kind {
        Kind::List { .. } => lists.push(id),
        Kind::Map(_) => maps.push(id),
        Kind::Call { function, .. } if formats_exempt && &**function == "format" => return,
        _ => {}
    }
    ast.children(kind, &mut |child| collect(ast, child, formats_exempt, lists, maps));
}

/// `'…'.format([…])` with both as literals.
fn format(checked: &CheckedAst, call: Id, target: Id, list: Id, errors: &mut Vec<SourceError>) {
    let ast = &checked.ast;
    let (Kind::Literal(Literal::String(text)), Kind::List { elements, .. }) = (ast.kind(target), ast.kind(list)) else {
        return;
    };
    match validate_format(text, checked, elements) {
        Ok(used) if elements.len() > used => {
            let message =
                format!("too many arguments supplied to string.format (expected {used}, got {})", elements.len());
            errors.push(error(ast, call, message));
        }
        Ok(_) => {}
        Err((at, message)) => errors.push(error(ast, at.unwrap_or(call), message)),
    }
}
