//! What an expression costs at least and at most, before anything is evaluated.
//!
//! Sizes of data come from [`SizeHints`], by the path that an expression takes to it; sizes of what functions make are derived. Invariants:
//! nothing overflows; what is not known has no upper bound.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::functions::{Arg, call_estimate};
use super::size::SizeEstimate;
use crate::ast::{Comprehension, Id, Kind, Literal};
use crate::check::CheckedAst;
use crate::limits::{LIST_CREATE_COST, MAP_CREATE_COST, SELECT_AND_IDENT_COST, STRUCT_CREATE_COST};
use crate::types::Type;
use crate::types::decl::Decl;

/// What something costs.
pub type CostEstimate = SizeEstimate;

/// What is known about sizes of variables and what is in them.
pub trait SizeHints {
    /// How many characters, elements or entries there are at a path: `["self", "spec", "hosts", "@items"]`. Steps are fields, `@items` of
    /// lists, `@keys` and `@values` of maps, `@indices`.
    fn size(&self, path: &[Arc<str>]) -> Option<SizeEstimate>;
}

/// Nothing is known.
impl SizeHints for () {
    fn size(&self, _path: &[Arc<str>]) -> Option<SizeEstimate> {
        None
    }
}

/// Variables with schemas.
impl SizeHints for [(&str, &Decl)] {
    fn size(&self, path: &[Arc<str>]) -> Option<SizeEstimate> {
        let (variable, steps) = path.split_first()?;
        let (_, root) = self.iter().find(|(name, _)| **name == **variable)?;
        let decl = steps.iter().try_fold(*root, |decl, step| decl.step(step))?;
        Some(SizeEstimate { min: 0, max: decl.max_elements })
    }
}

impl SizeHints for Vec<(&str, &Decl)> {
    fn size(&self, path: &[Arc<str>]) -> Option<SizeEstimate> {
        self.as_slice().size(path)
    }
}

impl<const N: usize> SizeHints for [(&str, &Decl); N] {
    fn size(&self, path: &[Arc<str>]) -> Option<SizeEstimate> {
        self.as_slice().size(path)
    }
}

pub(super) type Path = Rc<Vec<Arc<str>>>;

/// Sizes of what is in a list or a map.
#[derive(Debug, Clone, Copy)]
struct Entry {
    is_list: bool,
    key: SizeEstimate,
    value: SizeEstimate,
}

/// A variable of a comprehension.
#[derive(Debug, Clone)]
struct Local {
    path: Option<Path>,
    size: Option<SizeEstimate>,
    entry: Option<Entry>,
}

pub(super) struct Coster<'c> {
    pub checked: &'c CheckedAst,
    pub hints: &'c dyn SizeHints,
    paths: Vec<Option<Path>>,
    sizes: Vec<Option<SizeEstimate>>,
    entries: Vec<Option<Entry>>,
    locals: HashMap<Arc<str>, Vec<Local>>,
}

/// Estimates a checked expression.
pub(crate) fn estimate(checked: &CheckedAst, hints: &dyn SizeHints) -> CostEstimate {
    let size = checked.ast.len();
    let mut coster = Coster {
        checked,
        hints,
        paths: vec![None; size],
        sizes: vec![None; size],
        entries: vec![None; size],
        locals: HashMap::new(),
    };
    coster.cost(checked.ast.root())
}

const NOTHING: CostEstimate = CostEstimate::fixed(0);

impl Coster<'_> {
    pub fn type_of(&self, id: Id) -> &Type {
        self.checked.type_of(id)
    }

    fn local(&self, id: Id) -> Option<&Local> {
        match self.checked.ast.kind(id) {
            Kind::Ident(name) => self.locals.get(name)?.last(),
            _ => None,
        }
    }

    fn path(&self, id: Id) -> Option<Path> {
        match self.local(id) {
            Some(local) => local.path.clone(),
            None => self.paths.get(id.index()).cloned().flatten(),
        }
    }

    fn set_path(&mut self, id: Id, path: Option<Path>) {
        if let Some(place) = self.paths.get_mut(id.index()) {
            *place = path;
        }
    }

    /// A path with one more step; from nowhere the step is all there is.
    fn further(path: Option<Path>, step: &str) -> Option<Path> {
        let mut steps = path.map_or_else(Vec::new, |path| path.as_ref().clone());
        steps.push(Arc::from(step));
        Some(Rc::new(steps))
    }

    fn set_size(&mut self, id: Id, size: Option<SizeEstimate>) {
        if let (Some(place), Some(size)) = (self.sizes.get_mut(id.index()), size) {
            *place = Some(size);
        }
    }

    fn set_entry(&mut self, id: Id, entry: Option<Entry>) {
        if let (Some(place), Some(entry)) = (self.entries.get_mut(id.index()), entry) {
            *place = Some(entry);
        }
    }

    fn entry(&self, id: Id) -> Option<Entry> {
        let own = self.entries.get(id.index()).copied().flatten();
        own.or_else(|| self.local(id).and_then(|local| local.entry))
    }

    /// The size of what an expression gives, if anything is known.
    fn size(&mut self, id: Id) -> Option<SizeEstimate> {
        if let Some(known) = self.sizes.get(id.index()).copied().flatten() {
            return Some(known);
        }
        if let Some(size) = literal_size(self.checked.ast.kind(id)) {
            return Some(SizeEstimate::fixed(size));
        }
        if let Some(hint) = self.path(id).and_then(|path| self.hints.size(&path)) {
            self.set_size(id, Some(hint));
            return Some(hint);
        }
        if is_scalar(self.type_of(id)) {
            return Some(SizeEstimate::fixed(1));
        }
        self.local(id).and_then(|local| local.size)
    }

    fn size_or_unknown(&mut self, id: Id) -> SizeEstimate {
        self.size(id).unwrap_or(SizeEstimate::UNKNOWN)
    }

    fn arg(&mut self, id: Id) -> Arg {
        let path = self.path(id).filter(|path| path.first().is_none_or(|first| &**first != crate::parser::ACCUMULATOR));
        Arg { id, path, size: self.size(id) }
    }

    fn cost(&mut self, id: Id) -> CostEstimate {
        let checked = self.checked;
        match checked.ast.kind(id) {
            Kind::Nothing | Kind::Literal(_) => NOTHING,
            Kind::Ident(name) => {
                let path = self.path(id).or_else(|| Some(Rc::new(vec![name.clone()])));
                self.set_path(id, path);
                CostEstimate::fixed(SELECT_AND_IDENT_COST)
            }
            Kind::Select { operand, field, test_only } => {
                let cost = self.cost(*operand);
                if *test_only {
                    return cost;
                }
                let selects = matches!(self.type_of(*operand), Type::Map(_) | Type::Object(_) | Type::Param(_));
                let path = Self::further(self.path(*operand), field);
                self.set_path(id, path);
                if selects { cost.add(CostEstimate::fixed(SELECT_AND_IDENT_COST)) } else { cost }
            }
            Kind::Call { function, target, args } => self.call(id, function, *target, args),
            Kind::List { elements, .. } => {
                let values: Vec<Id> = elements.clone();
                let (cost, value) = self.all(&values);
                self.set_entry(id, Some(Entry { is_list: true, key: SizeEstimate::fixed(1), value }));
                cost.add(CostEstimate::fixed(LIST_CREATE_COST))
            }
            Kind::Map(entries) => {
                let (mut cost, mut key, mut value) =
                    (NOTHING, none_yet(entries.is_empty()), none_yet(entries.is_empty()));
                for entry in entries {
                    cost = cost.add(self.cost(entry.key)).add(self.cost(entry.value));
                    key = key.union(self.size_or_unknown(entry.key));
                    value = value.union(self.size_or_unknown(entry.value));
                }
                self.set_entry(id, Some(Entry { is_list: false, key, value }));
                cost.add(CostEstimate::fixed(MAP_CREATE_COST))
            }
            Kind::Struct { fields, .. } => {
                let cost = fields.iter().fold(NOTHING, |cost, field| cost.add(self.cost(field.value)));
                cost.add(CostEstimate::fixed(STRUCT_CREATE_COST))
            }
            Kind::Comprehension(it) if is_bind(checked, it) => self.bind(id, it),
            Kind::Comprehension(it) => self.comprehension(id, it),
        }
    }

    fn all(&mut self, ids: &[Id]) -> (CostEstimate, SizeEstimate) {
        ids.iter().fold((NOTHING, none_yet(ids.is_empty())), |(cost, size), id| {
            let cost = cost.add(self.cost(*id));
            (cost, size.union(self.size_or_unknown(*id)))
        })
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> CostEstimate {
        if function == "dyn" {
            let [arg] = args else { return NOTHING };
            let cost = self.cost(*arg);
            self.copy_sizes(id, *arg);
            return cost.add(CostEstimate::fixed(1));
        }
        let costs: Vec<CostEstimate> = args.iter().map(|arg| self.cost(*arg)).collect();
        let overloads: Vec<&'static str> = self.checked.overloads(id).iter().map(|it| it.id).collect();
        if overloads.is_empty() {
            return NOTHING;
        }
        let before = target.map_or(NOTHING, |target| self.cost(target));
        let shown: Vec<Arg> = args.iter().map(|arg| self.arg(*arg)).collect();
        let on = target.map(|target| self.arg(target));
        let (mut cost, mut result): (CostEstimate, Option<SizeEstimate>) =
            (CostEstimate { min: u64::MAX, max: 0 }, None);
        for overload in overloads {
            let (of_call, size) = self.overload_cost(id, function, overload, on.as_ref(), &shown, &costs);
            cost = cost.union(of_call);
            result = match (result, size) {
                (Some(known), Some(size)) => Some(known.union(size)),
                (known, size) => known.or(size),
            };
            if let ("index_list" | "index_map", [range, ..]) = (overload, args) {
                result = self.entry(*range).map(|entry| entry.value);
                let step = if overload == "index_list" { "@items" } else { "@values" };
                let path = Self::further(self.path(*range), step);
                self.set_path(id, path);
            }
            result = result.or_else(|| self.size(id));
        }
        self.set_size(id, result);
        before.add(cost)
    }

    /// The cost of a call of an overload with its arguments, and the size of what it gives.
    fn overload_cost(
        &mut self,
        id: Id,
        function: &str,
        overload: &str,
        target: Option<&Arg>,
        args: &[Arg],
        costs: &[CostEstimate],
    ) -> (CostEstimate, Option<SizeEstimate>) {
        let sum = costs.iter().fold(NOTHING, |sum, cost| sum.add(*cost));
        if let Some((cost, size)) = call_estimate(self, function, overload, target, args) {
            return (cost.add(sum), size);
        }
        match (overload, args, costs) {
            ("logical_or" | "logical_and", _, [left, right]) => {
                (CostEstimate { min: left.min, max: left.add(*right).max }, None)
            }
            ("conditional", [_, yes, no], [condition, of_yes, of_no]) => {
                let size = yes.size_or_unknown().union(no.size_or_unknown());
                let entry = self.entry(yes.id).zip(self.entry(no.id)).map(|(yes, no)| yes.union(no));
                self.set_entry(id, entry);
                (condition.add(of_yes.union(*of_no)), Some(size))
            }
            ("add_string" | "add_bytes" | "add_list", [left, right], _) => {
                let size = left.size_or_unknown().add(right.size_or_unknown());
                let entry = self.entry(left.id).zip(self.entry(right.id)).map(|(left, right)| left.union(right));
                self.set_entry(id, entry);
                let cost = if overload == "add_list" {
                    CostEstimate::fixed(1)
                } else {
                    size.factor(crate::limits::STRING_FACTOR)
                };
                (cost.add(sum), Some(size))
            }
            _ => (CostEstimate::fixed(1).add(sum), None),
        }
    }

    fn copy_sizes(&mut self, to: Id, from: Id) {
        let size = self.size(from);
        self.set_size(to, size);
        self.set_entry(to, self.entry(from));
    }

    fn push(&mut self, name: &Arc<str>, local: Local) {
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn pop(&mut self, name: &Arc<str>) {
        self.locals.get_mut(name).and_then(Vec::pop);
    }

    /// A variable that goes over a range: over its keys or over its values.
    fn push_iteration(&mut self, name: &Arc<str>, range: Id, keys: bool) {
        let entry = self.entry(range);
        let is_list = entry.map_or(matches!(self.type_of(range), Type::List(_)), |entry| entry.is_list);
        let size = entry.map(|entry| if keys { entry.key } else { entry.value });
        let step = match (keys, is_list) {
            (true, true) => "@indices",
            (true, false) => "@keys",
            (false, true) => "@items",
            (false, false) => "@values",
        };
        let path = Self::further(self.path(range), step);
        self.push(name, Local { path, size, entry: None });
    }

    fn push_accumulator(&mut self, it: &Comprehension) {
        let local = Local { path: self.path(it.init), size: self.size(it.init), entry: self.entry(it.init) };
        self.push(&it.accumulator, local);
    }

    fn comprehension(&mut self, id: Id, it: &Comprehension) -> CostEstimate {
        let mut cost = self.cost(it.range).add(self.cost(it.init));
        self.push_accumulator(it);
        match &it.second {
            Some(second) => {
                self.push_iteration(&it.variable, it.range, true);
                self.push_iteration(second, it.range, false);
            }
            None => {
                let entry = self.entry(it.range);
                let is_list = entry.map_or(matches!(self.type_of(it.range), Type::List(_)), |entry| entry.is_list);
                self.push_iteration(&it.variable, it.range, !is_list);
            }
        }
        let condition = self.cost(it.condition);
        let step = self.cost(it.step);
        self.pop(&it.variable);
        if let Some(second) = &it.second {
            self.pop(second);
        }
        cost = cost.add(self.cost(it.result));
        self.pop(&it.accumulator);
        let count = self.size_or_unknown(it.range);
        cost = cost.add(count.multiply(step.add(condition)));
        match self.checked.ast.kind(it.init) {
            Kind::Literal(_) => {
                let size = self.size(it.init);
                self.set_size(id, size);
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.set_size(id, Some(count));
                self.set_entry(id, self.entry(it.step));
            }
            _ => {}
        }
        cost
    }

    fn bind(&mut self, id: Id, it: &Comprehension) -> CostEstimate {
        let cost = self.cost(it.range).add(self.cost(it.init));
        self.push_accumulator(it);
        let result = self.cost(it.result);
        self.pop(&it.accumulator);
        self.copy_sizes(id, it.result);
        cost.add(result)
    }
}

impl Entry {
    fn union(self, other: Self) -> Self {
        Self { is_list: self.is_list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// The size that others are joined with; of nothing it is 0.
fn none_yet(empty: bool) -> SizeEstimate {
    SizeEstimate { min: if empty { 0 } else { u64::MAX }, max: 0 }
}

fn is_bind(checked: &CheckedAst, it: &Comprehension) -> bool {
    let empty = matches!(checked.ast.kind(it.range), Kind::List { elements, .. } if elements.is_empty());
    empty && *checked.ast.kind(it.condition) == Kind::Literal(Literal::Bool(false))
}

fn literal_size(kind: &Kind) -> Option<u64> {
    Some(match kind {
        Kind::Literal(Literal::String(it)) => it.chars().count() as u64,
        Kind::Literal(Literal::Bytes(it)) => it.len() as u64,
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        _ => return None,
    })
}

fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        other => other.optional_of().is_some_and(is_scalar),
    }
}
