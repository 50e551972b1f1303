//! From a checked tree to a program.

use std::sync::Arc;

use super::{Attribute, Call, Code, Construct, Fold, Node, NodeId, Program, Qualifier, QualifierKey, Root, Set};
use crate::ast::{Comprehension, Id, Kind, Literal};
use crate::budget::Budget;
use crate::check::{CheckedAst, Reference};
use crate::context::Context;
use crate::cost::runtime::rule;
use crate::functions::{Function, Overload};
use crate::source::CompileErrors;
use crate::value::{Key, List, Map, OwnedMap, Text, Value, double_to_int, double_to_uint};
use kedge_meta::regexp;

/// Functions that are called at once when their argument is a constant.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "dyn", "duration", "int", "string", "timestamp", "type", "uint"];

/// Makes a program of a checked expression.
pub(crate) fn plan(checked: &CheckedAst) -> Result<Program, CompileErrors> {
    let mut planner =
        Planner { checked, nodes: Vec::new(), slots: 0, scopes: Vec::new(), taken: None, variables: Vec::new() };
    let root = checked.ast.root();
    let root = planner.node(root).map_err(|message| CompileErrors::instantiation(checked.ast.source(), message))?;
    Ok(Program(Arc::new(Code {
        nodes: planner.nodes.into(),
        root,
        slots: planner.slots,
        variables: planner.variables.into(),
        result_type: checked.type_of(checked.ast.root()).clone(),
    })))
}

type Planned<T> = Result<T, String>;

struct Planner<'c> {
    checked: &'c CheckedAst,
    nodes: Vec<Node>,
    slots: usize,
    /// Names of comprehensions' variables, the innermost last.
    scopes: Vec<(Arc<str>, usize)>,
    /// The accumulator whose step is planned: it is read once there.
    taken: Option<usize>,
    variables: Vec<Arc<str>>,
}

impl Planner<'_> {
    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        // There are no more nodes than in the tree, which the parser bounds.
        self.nodes.len() as NodeId - 1
    }

    fn get(&self, node: NodeId) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    fn constant(&self, node: NodeId) -> Option<&Value<'static>> {
        match self.get(node) {
            Some(Node::Constant(value)) => Some(value),
            _ => None,
        }
    }

    fn node(&mut self, id: Id) -> Planned<NodeId> {
        let ast = &self.checked.ast;
        let node = match ast.kind(id) {
            Kind::Nothing => return Err("unsupported expression".to_owned()),
            Kind::Literal(literal) => Node::Constant(value_of(literal)),
            Kind::Ident(name) => self.name(id, name),
            Kind::Select { operand, field, test_only } => self.select(id, *operand, field, *test_only)?,
            Kind::Call { target, args, .. } => return self.call(id, *target, args),
            Kind::List { elements, optional } => self.list(elements, optional)?,
            Kind::Map(entries) => {
                let mut planned = Vec::with_capacity(entries.len());
                for entry in entries {
                    planned.push((self.node(entry.key)?, self.node(entry.value)?, entry.optional));
                }
                self.constant_map(&planned).unwrap_or_else(|| Node::Map(planned.into()))
            }
            Kind::Struct { name, fields } => {
                let mut planned = Vec::with_capacity(fields.len());
                for field in fields {
                    planned.push((field.name.clone(), self.node(field.value)?, field.optional));
                }
                Node::Struct(Box::new(Construct { name: name.clone(), fields: planned.into() }))
            }
            Kind::Comprehension(it) => self.fold(it)?,
        };
        Ok(self.add(node))
    }

    fn name(&mut self, id: Id, name: &Arc<str>) -> Node {
        if let Some(Reference::Type(of)) = self.checked.reference(id) {
            return Node::Constant(Value::Type(of.clone()));
        }
        let root = match self.scopes.iter().rev().find(|(own, _)| own == name) {
            Some((_, slot)) if !name.starts_with('.') => Root::Slot { slot: *slot, take: self.taken == Some(*slot) },
            _ => {
                if !self.variables.contains(name) {
                    self.variables.push(name.clone());
                }
                Root::Variable(name.clone())
            }
        };
        Node::Attribute(Box::new(Attribute { root, qualifiers: Vec::new() }))
    }

    /// A node as something in which things are looked up: an attribute as it is, another as an operand.
    fn attribute(&mut self, node: NodeId) -> Attribute {
        let operand = Attribute { root: Root::Operand(node), qualifiers: Vec::new() };
        let last = node as usize + 1 == self.nodes.len();
        let taken = match self.nodes.get_mut(node as usize) {
            Some(Node::Attribute(_)) if last => self.nodes.pop(),
            Some(place @ Node::Attribute(_)) => Some(std::mem::replace(place, Node::Constant(Value::Null))),
            _ => None,
        };
        match taken {
            Some(Node::Attribute(attribute)) => *attribute,
            _ => operand,
        }
    }

    fn select(&mut self, id: Id, operand: Id, field: &Arc<str>, test_only: bool) -> Planned<Node> {
        if let Some(Reference::Type(of)) = self.checked.reference(id) {
            return Ok(Node::Constant(Value::Type(of.clone())));
        }
        let operand = self.node(operand)?;
        let mut attribute = self.attribute(operand);
        let key = || QualifierKey::Constant(Value::String(Text::Shared(field.clone())));
        qualify(&mut attribute, &mut || Qualifier { key: key(), optional: false });
        let attribute = Box::new(attribute);
        Ok(if test_only { Node::Has(attribute) } else { Node::Attribute(attribute) })
    }

    fn list(&mut self, elements: &[Id], optional: &[usize]) -> Planned<Node> {
        let mut planned = Vec::with_capacity(elements.len());
        for (n, element) in elements.iter().enumerate() {
            planned.push((self.node(*element)?, optional.contains(&n)));
        }
        let constants: Option<Vec<_>> = planned.iter().map(|(node, _)| self.constant(*node).cloned()).collect();
        Ok(match constants.filter(|_| optional.is_empty()) {
            Some(values) => Node::Constant(Value::list(values)),
            None => Node::List(planned.into()),
        })
    }

    fn constant_map(&self, entries: &[(NodeId, NodeId, bool)]) -> Option<Node> {
        let mut map = OwnedMap::default();
        for (key, value, optional) in entries {
            if *optional {
                return None;
            }
            let key = Key::new(self.constant(*key)?.clone()).ok()?;
            map.insert(key, self.constant(*value)?.clone());
        }
        Some(Node::Constant(Value::Map(Map::Owned(Arc::new(map)))))
    }

    fn fold(&mut self, it: &Comprehension) -> Planned<Node> {
        let taken = self.taken.take();
        let range = self.node(it.range)?;
        let init = self.node(it.init)?;
        let outer = self.scopes.len();
        let accumulator = self.slot(&it.accumulator);
        let inner = self.scopes.len();
        let variable = self.slot(&it.variable);
        let second = it.second.as_ref().map(|name| self.slot(name));
        let condition = self.node(it.condition)?;
        self.taken = Some(accumulator);
        let step = self.node(it.step)?;
        self.taken = None;
        self.scopes.truncate(inner);
        let result = self.node(it.result)?;
        self.scopes.truncate(outer);
        self.taken = taken;
        Ok(Node::Fold(Box::new(Fold { range, init, condition, step, result, accumulator, variable, second })))
    }

    fn slot(&mut self, name: &Arc<str>) -> usize {
        self.slots += 1;
        self.scopes.push((name.clone(), self.slots - 1));
        self.slots - 1
    }

    fn call(&mut self, id: Id, target: Option<Id>, args: &[Id]) -> Planned<NodeId> {
        let Some(Reference::Call { function, overloads }) = self.checked.reference(id) else {
            return Err("call of an unknown function".to_owned());
        };
        let mut planned = Vec::with_capacity(args.len() + 1);
        for arg in target.iter().chain(args) {
            planned.push(self.node(*arg)?);
        }
        let node = match (&*function.name, planned.as_slice()) {
            ("_&&_", [a, b]) => Node::And(*a, *b),
            ("_||_", [a, b]) => Node::Or(*a, *b),
            ("_==_" | "_!=_", [a, b]) => Node::Equal { left: *a, right: *b, negated: &*function.name == "_!=_" },
            ("@not_strictly_false", [a]) => Node::NotStrictlyFalse(*a),
            ("_?_:_", [condition, yes, no]) => self.choice(*condition, *yes, *no),
            ("_[_]", [object, key]) => self.index(*object, *key, false),
            ("_?._" | "_[?_]", [object, key]) => self.index(*object, *key, true),
            ("or" | "orValue", [optional, other]) if target.is_some() => {
                Node::OrElse { optional: *optional, other: *other, unwrap: &*function.name == "orValue" }
            }
            ("@in", [value, list]) if is_in_list(overloads) => match self.set(*list) {
                Some(Some(set)) => Node::InSet(*value, Box::new(set)),
                Some(None) => Node::Constant(Value::Bool(false)),
                None => self.plain_call(function, overloads, planned)?,
            },
            ("_+_", [list, element]) => match self.append(*list, *element) {
                Some(node) => node,
                None => self.plain_call(function, overloads, planned)?,
            },
            _ => self.plain_call(function, overloads, planned)?,
        };
        Ok(self.add(node))
    }

    /// The accumulator of a comprehension with one more element, if that is what is added up.
    fn append(&mut self, list: NodeId, element: NodeId) -> Option<Node> {
        let Some(Node::List(elements)) = self.get(element) else { return None };
        let [(element, false)] = elements[..] else { return None };
        match self.get(list) {
            Some(Node::Attribute(it))
                if it.qualifiers.is_empty() && matches!(it.root, Root::Slot { take: true, .. }) =>
            {
                let list = Box::new(self.attribute(list));
                Some(Node::Append { list, element })
            }
            _ => None,
        }
    }

    fn plain_call(
        &mut self,
        function: &Arc<Function>,
        overloads: &[Arc<Overload>],
        args: Vec<NodeId>,
    ) -> Planned<Node> {
        let overload = if let [overload] = overloads { Some(overload.clone()) } else { None };
        if let ([arg], true) = (args.as_slice(), CONVERSIONS.contains(&&*function.name))
            && let Some(value) = self.constant(*arg)
        {
            let budget = Budget::new(u64::MAX);
            let mut context = Context::new(&budget);
            let mut values = [value.clone()];
            let result = super::evaluate::apply(&mut context, function, overload.as_deref(), &mut values);
            return result.map(Node::Constant).map_err(|error| error.to_string());
        }
        let pattern = match (&*function.name, args.as_slice()) {
            ("matches" | "find" | "findAll", [_, pattern, ..]) => match self.constant(*pattern) {
                Some(Value::String(text)) => Some(Arc::new(regexp::compile(text).map_err(|error| error.to_string())?)),
                _ => None,
            },
            _ => None,
        };
        let rule = rule(&function.name, overload.as_ref().map(|it| it.id));
        let dispatched = overload.is_none() && function.common.is_none();
        let stops = pattern.is_some() || dispatched || overload.as_ref().is_some_and(|it| it.id == "string_format");
        Ok(Node::Call(Box::new(Call { function: function.clone(), overload, args: args.into(), stops, rule, pattern })))
    }

    /// Both sides of a choice become attributes, so that what is looked up in the choice is looked up in them.
    fn choice(&mut self, condition: NodeId, yes: NodeId, no: NodeId) -> Node {
        let no = self.attribute(no);
        let branches = Box::new((self.attribute(yes), no));
        Node::Attribute(Box::new(Attribute { root: Root::Choice(condition, branches), qualifiers: Vec::new() }))
    }

    fn index(&mut self, object: NodeId, key: NodeId, optional: bool) -> Node {
        let key = match self.constant(key) {
            Some(value) if is_key(value) => QualifierKey::Constant(value.clone()),
            _ => QualifierKey::Attribute(self.attribute(key)),
        };
        let mut attribute = self.attribute(object);
        if let (Root::Choice(..), QualifierKey::Attribute(_)) = (&attribute.root, &key) {
            // A key that is evaluated belongs to one place only: the choice becomes an operand, and costs what it costs as one.
            let choice = self.add(Node::Attribute(Box::new(attribute)));
            attribute = Attribute { root: Root::Operand(choice), qualifiers: Vec::new() };
        }
        match key {
            QualifierKey::Constant(value) => {
                qualify(&mut attribute, &mut || Qualifier { key: QualifierKey::Constant(value.clone()), optional });
            }
            key @ QualifierKey::Attribute(_) => attribute.qualifiers.push(Qualifier { key, optional }),
        }
        Node::Attribute(Box::new(attribute))
    }

    /// The values of a constant list as a set, if all are primitive; nothing if there are none.
    fn set(&self, list: NodeId) -> Option<Option<Set>> {
        let Some(Value::List(List::Owned(values))) = self.constant(list) else { return None };
        if values.is_empty() {
            return Some(None);
        }
        let mut set = Set::default();
        for value in values.iter() {
            set.values.insert(Key::new(value.clone()).ok()?);
            match value {
                Value::Int(it) => {
                    set.values.insert(Key::Double((*it as f64).to_bits()));
                    set.values.extend(u64::try_from(*it).ok().map(Key::Uint));
                }
                Value::Uint(it) => {
                    set.values.insert(Key::Double((*it as f64).to_bits()));
                    set.values.extend(i64::try_from(*it).ok().map(Key::Int));
                }
                Value::Double(it) => {
                    set.values.extend(double_to_int(*it).filter(|n| *n as f64 == *it).map(Key::Int));
                    set.values.extend(double_to_uint(*it).filter(|n| *n as f64 == *it).map(Key::Uint));
                }
                _ => {}
            }
        }
        Some(Some(set))
    }
}

fn is_in_list(overloads: &[Arc<Overload>]) -> bool {
    matches!(overloads, [only] if only.id == "in_list")
}

/// Which constants are looked up as they are.
fn is_key(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_))
}

/// Looks something up in an attribute; in a choice, on both sides.
fn qualify(attribute: &mut Attribute, make: &mut dyn FnMut() -> Qualifier) {
    match &mut attribute.root {
        Root::Choice(_, branches) => {
            qualify(&mut branches.0, make);
            qualify(&mut branches.1, make);
        }
        _ => attribute.qualifiers.push(make()),
    }
}

fn value_of(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(it) => Value::Bool(*it),
        Literal::Int(it) => Value::Int(*it),
        Literal::Uint(it) => Value::Uint(*it),
        Literal::Double(it) => Value::Double(*it),
        Literal::String(it) => Value::String(Text::Shared(it.clone())),
        Literal::Bytes(it) => Value::Bytes(it.clone()),
    }
}
