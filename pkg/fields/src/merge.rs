//! Lays an applied configuration over an object.
//!
//! Invariants: nothing goes by it; where both say something, the configuration is right; items that the configuration names come in
//! its order, and the others stay beside their neighbours.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::element::Element;
use crate::items::{self, as_list, as_map};
use crate::mismatch::Mismatches;
use crate::types::{Form, Items, Type};

/// Merges a configuration into an object of the same type.
///
/// # Errors
/// Items of lists that cannot be told from others.
pub fn merge(ty: Type<'_>, object: &Value, applied: &Value) -> Result<Value, Mismatches> {
    let mut found = Mismatches::default();
    let merged = node(ty, Some(object), Some(applied), &mut found);
    found.check()?;
    Ok(merged.unwrap_or_default())
}

fn node(ty: Type<'_>, left: Option<&Value>, right: Option<&Value>, found: &mut Mismatches) -> Option<Value> {
    let Some(applied) = right else { return left.cloned() };
    match ty.forms().of(Some(applied)).form() {
        Form::Scalar(_) => Some(applied.clone()),
        Form::Map => {
            let (was, is) = (as_map(left), as_map(right));
            let empty = was.is_none_or(Map::is_empty) && is.is_none_or(Map::is_empty);
            if empty || ty.is_atomic_map() {
                return Some(applied.clone());
            }
            fields(ty, was, is, found)
        }
        Form::List => {
            let (was, is) = (as_list(left), as_list(right));
            let empty = was.is_none_or(<[Value]>::is_empty) && is.is_none_or(<[Value]>::is_empty);
            if empty || ty.items() == Items::Atomic {
                return Some(applied.clone());
            }
            list(ty, was, is, found)
        }
    }
}

fn fields(
    ty: Type<'_>,
    left: Option<&Map<String, Value>>,
    right: Option<&Map<String, Value>>,
    found: &mut Mismatches,
) -> Option<Value> {
    let ours = left.into_iter().flatten().filter(|(name, _)| right.is_none_or(|map| !map.contains_key(*name)));
    let mut out: Map<String, Value> = ours.map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, applied) in right.into_iter().flatten() {
        let mut below = Mismatches::default();
        let merged = node(ty.field_or_any(name), left.and_then(|map| map.get(name)), Some(applied), &mut below);
        found.below(&Element::field(name), below);
        if let Some(merged) = merged {
            out.insert(name.clone(), merged);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// What an item on the left is.
enum Left<'v> {
    One(&'v Value),
    /// There are several of that step: none of them is merged with what replaces them.
    Several,
}

fn list(ty: Type<'_>, left: Option<&[Value]>, right: Option<&[Value]>, found: &mut Mismatches) -> Option<Value> {
    let (lefts, rights) = match (items::index(ty, left), items::index(ty, right)) {
        (Ok(lefts), Ok(rights)) => (lefts, rights),
        (left, right) => {
            right.err().into_iter().chain(left.err()).for_each(|why| found.push(why));
            return None;
        }
    };
    let mut on_left = std::collections::BTreeMap::new();
    for (element, value) in &lefts {
        on_left.entry(element).and_modify(|left| *left = Left::Several).or_insert(Left::One(value));
    }
    let mut on_right = BTreeSet::new();
    for (element, _) in &rights {
        if !on_right.insert(element) {
            found.push(format!("duplicate entries for key {element}"));
            return None;
        }
    }
    let mut shared = rights.iter().map(|(element, _)| element).filter(|element| on_left.contains_key(element));
    let mut next_shared = shared.next();
    let mut out = Vec::with_capacity(lefts.len().max(rights.len()));
    let mut take = |(element, applied): &(Element, &Value), out: &mut Vec<Value>| {
        let current = match on_left.get(element) {
            Some(Left::One(value)) => Some(*value),
            Some(Left::Several) | None => None,
        };
        let mut below = Mismatches::default();
        out.extend(node(ty.item(), current, Some(applied), &mut below));
        found.below(element, below);
    };
    let mut taken = BTreeSet::new();
    let (mut l, mut r) = (0, 0);
    while l < lefts.len() || r < rights.len() {
        if let (Some((element, _)), Some(right)) = (lefts.get(l), rights.get(r)) {
            if *element == right.0 {
                taken.insert(element);
                take(right, &mut out);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            // A shared item, but not the one whose turn it is.
            if on_right.contains(element) && next_shared.is_some_and(|next| next != element) {
                l += 1;
                continue;
            }
        }
        if let Some((element, value)) = lefts.get(l) {
            if !on_right.contains(element) {
                out.push((*value).clone());
                l += 1;
                continue;
            }
            if taken.contains(element) {
                l += 1;
            }
        }
        if let Some(right) = rights.get(r) {
            taken.insert(&right.0);
            take(right, &mut out);
            r += 1;
            if next_shared == Some(&right.0) {
                next_shared = shared.next();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}
