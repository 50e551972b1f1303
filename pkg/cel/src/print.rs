//! Trees as text. What no macro made is an expression that parses to the same tree; comprehensions are shown with all their parts.

use std::fmt::Write as _;

use crate::ast::{Ast, Id, Kind, Literal};
use crate::value::quote;

/// Operators that stand between their operands.
const BINARY: [(&str, &str); 14] = [
    ("_||_", "||"),
    ("_&&_", "&&"),
    ("_==_", "=="),
    ("_!=_", "!="),
    ("@in", "in"),
    ("_<_", "<"),
    ("_<=_", "<="),
    ("_>=_", ">="),
    ("_>_", ">"),
    ("_+_", "+"),
    ("_-_", "-"),
    ("_*_", "*"),
    ("_/_", "/"),
    ("_%_", "%"),
];

/// Shows a tree. Every operation is in parentheses.
pub(crate) fn show(ast: &Ast) -> String {
    let mut out = String::new();
    write(ast, ast.root(), &mut out);
    out
}

fn write(ast: &Ast, id: Id, out: &mut String) {
    match ast.kind(id) {
        Kind::Nothing => out.push_str("*error*"),
        Kind::Literal(literal) => write_literal(literal, out),
        Kind::Ident(name) => out.push_str(name),
        Kind::Select { operand, field, test_only } => {
            out.push_str(if *test_only { "has(" } else { "" });
            write_operand(ast, *operand, out);
            let _ = write!(out, ".{field}");
            out.push_str(if *test_only { ")" } else { "" });
        }
        Kind::Call { function, target, args } => write_call(ast, function, *target, args, out),
        Kind::List { elements, optional } => {
            out.push('[');
            for (n, element) in elements.iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                out.push_str(if optional.contains(&n) { "?" } else { "" });
                write(ast, *element, out);
            }
            out.push(']');
        }
        Kind::Map(entries) => {
            out.push('{');
            for (n, entry) in entries.iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                out.push_str(if entry.optional { "?" } else { "" });
                write(ast, entry.key, out);
                out.push_str(": ");
                write(ast, entry.value, out);
            }
            out.push('}');
        }
        Kind::Struct { name, fields } => {
            let _ = write!(out, "{name}{{");
            for (n, field) in fields.iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                let _ = write!(out, "{}{}: ", if field.optional { "?" } else { "" }, field.name);
                write(ast, field.value, out);
            }
            out.push('}');
        }
        Kind::Comprehension(it) => {
            let _ = write!(out, "fold({}", it.variable);
            if let Some(second) = &it.second {
                let _ = write!(out, ", {second}");
            }
            out.push_str(" in ");
            write(ast, it.range, out);
            let _ = write!(out, "; {} = ", it.accumulator);
            for (n, part) in [it.init, it.condition, it.step, it.result].into_iter().enumerate() {
                out.push_str(if n > 0 { "; " } else { "" });
                write(ast, part, out);
            }
            out.push(')');
        }
    }
}

/// What something is selected from: a literal number needs parentheses.
fn write_operand(ast: &Ast, id: Id, out: &mut String) {
    let open = matches!(ast.kind(id), Kind::Literal(Literal::Int(_) | Literal::Uint(_) | Literal::Double(_)));
    out.push_str(if open { "(" } else { "" });
    write(ast, id, out);
    out.push_str(if open { ")" } else { "" });
}

fn write_all(ast: &Ast, ids: &[Id], out: &mut String) {
    for (n, id) in ids.iter().enumerate() {
        out.push_str(if n > 0 { ", " } else { "" });
        write(ast, *id, out);
    }
}

fn write_call(ast: &Ast, function: &str, target: Option<Id>, args: &[Id], out: &mut String) {
    let operator = BINARY.iter().find(|(name, _)| *name == function).map(|(_, shown)| *shown);
    match (function, target, args) {
        (_, None, [left, right]) if operator.is_some() => {
            out.push('(');
            write(ast, *left, out);
            let _ = write!(out, " {} ", operator.unwrap_or_default());
            write(ast, *right, out);
            out.push(')');
        }
        ("!_" | "-_", None, [operand]) => {
            out.push_str(&function[..1]);
            out.push('(');
            write(ast, *operand, out);
            out.push(')');
        }
        ("_?_:_", None, [condition, yes, no]) => {
            out.push('(');
            write(ast, *condition, out);
            out.push_str(" ? ");
            write(ast, *yes, out);
            out.push_str(" : ");
            write(ast, *no, out);
            out.push(')');
        }
        ("_[_]" | "_[?_]", None, [object, key]) => {
            write_operand(ast, *object, out);
            out.push_str(if function == "_[_]" { "[" } else { "[?" });
            write(ast, *key, out);
            out.push(']');
        }
        ("_?._", None, [object, field]) => {
            write_operand(ast, *object, out);
            out.push_str(".?");
            match ast.kind(*field) {
                Kind::Literal(Literal::String(name)) => out.push_str(name),
                _ => write(ast, *field, out),
            }
        }
        _ => {
            if let Some(target) = target {
                write_operand(ast, target, out);
                out.push('.');
            }
            let _ = write!(out, "{function}(");
            write_all(ast, args, out);
            out.push(')');
        }
    }
}

fn write_literal(literal: &Literal, out: &mut String) {
    match literal {
        Literal::Null => out.push_str("null"),
        Literal::Bool(it) => out.push_str(if *it { "true" } else { "false" }),
        Literal::Int(it) => out.push_str(&it.to_string()),
        Literal::Uint(it) => out.push_str(&format!("{it}u")),
        Literal::Double(it) => {
            let shown = it.to_string();
            out.push_str(&shown);
            out.push_str(if shown.contains('.') { "" } else { ".0" });
        }
        Literal::String(it) => out.push_str(&quote(it)),
        Literal::Bytes(it) => {
            out.push_str("b\"");
            it.iter().for_each(|b| out.push_str(&format!("\\{b:03o}")));
            out.push('"');
        }
    }
}
