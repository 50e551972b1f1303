//! Sets of fields: trees of steps, each of which may be a member itself and have members below it.
//!
//! Invariants: steps are sorted and differ; a step is a member or has members below it, so that a set without steps is the empty
//! one and no step is there for nothing.

use std::cmp::Ordering;

use crate::element::Element;
use crate::types::Type;

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub(crate) nodes: Vec<Node>,
}

/// One step, and what of it is in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub element: Element,
    pub member: bool,
    pub below: Set,
}

impl Set {
    /// Of paths of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a field. The object itself is in no set.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let at = match self.find(first) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, Node { element: first.clone(), member: false, below: Self::default() });
                at
            }
        };
        match rest {
            [] => self.nodes[at].member = true,
            rest => self.nodes[at].below.insert(rest),
        }
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.element.cmp(element))
    }

    pub(crate) fn get(&self, element: &Element) -> Option<&Node> {
        self.find(element).ok().map(|at| &self.nodes[at])
    }

    /// Whether a field is a member.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.get(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// Adds a step that comes after all others, if there is something of it in the set.
    pub(crate) fn push(&mut self, element: Element, member: bool, below: Self) {
        if member || !below.is_empty() {
            debug_assert!(self.nodes.last().is_none_or(|last| last.element < element), "steps are sorted");
            self.nodes.push(Node { element, member, below });
        }
    }

    /// What is in either.
    pub fn union(self, other: Self) -> Self {
        if other.is_empty() {
            return self;
        }
        if self.is_empty() {
            return other;
        }
        let mut out = Self { nodes: Vec::with_capacity(self.nodes.len().max(other.nodes.len())) };
        let (mut ours, mut theirs) = (self.nodes.into_iter().peekable(), other.nodes.into_iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => our.element.cmp(&their.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return out,
            };
            let node = match order {
                Ordering::Less => ours.next(),
                Ordering::Greater => theirs.next(),
                Ordering::Equal => ours.next().zip(theirs.next()).map(|(our, their)| Node {
                    element: our.element,
                    member: our.member || their.member,
                    below: our.below.union(their.below),
                }),
            };
            out.nodes.extend(node);
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        // The smaller one leads: what changed is small, what is owned is not.
        let (few, many) = if self.nodes.len() < other.nodes.len() { (self, other) } else { (other, self) };
        for node in &few.nodes {
            if let Some(with) = many.get(&node.element) {
                let below = node.below.intersection(&with.below);
                out.push(node.element.clone(), node.member && with.member, below);
            }
        }
        out
    }

    /// What is in this one alone. What is below a member of the other stays.
    pub fn difference(self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// What is neither in the other nor below a member of it.
    pub fn recursive_difference(self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(mut self, other: &Self, recursive: bool) -> Self {
        if other.is_empty() {
            return self;
        }
        self.nodes.retain_mut(|node| {
            let Some(less) = other.get(&node.element) else { return true };
            if less.member && recursive {
                return false;
            }
            node.member &= !less.member;
            node.below = std::mem::take(&mut node.below).without(&less.below, recursive);
            node.member || !node.below.is_empty()
        });
        self
    }

    /// What lies on one of the ways of fields, or at its end or below; `*` is any step.
    pub fn along(self, ways: &[&[&str]]) -> Self {
        if ways.iter().any(|way| way.is_empty()) {
            return self;
        }
        let mut out = Self::default();
        for node in self.nodes {
            let on = |step: &str| step == "*" || matches!(&node.element, Element::Field(name) if **name == *step);
            let rest = ways.iter().filter_map(|way| way.split_first()).filter(|(first, _)| on(first));
            let rest: Vec<&[&str]> = rest.map(|(_, rest)| rest).collect();
            if !rest.is_empty() {
                let below = node.below.along(&rest);
                out.push(node.element, node.member, below);
            }
        }
        out
    }

    /// With the named fields on the way to members, which are usually none.
    pub(crate) fn with_named_fields(mut self, ty: Option<Type<'_>>) -> Self {
        for node in &mut self.nodes {
            let below = match (&node.element, ty) {
                (Element::Field(name), Some(ty)) if ty.forms().map => {
                    node.member |= !node.below.is_empty() && ty.named(name).is_some();
                    ty.field(name)
                }
                (Element::Key(_), Some(ty)) if ty.forms().list => Some(ty.item()),
                _ => None,
            };
            node.below = std::mem::take(&mut node.below).with_named_fields(below);
        }
        self
    }

    /// All members, each with the way to it, in order.
    pub fn members(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, way: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for node in &self.nodes {
            way.push(node.element.clone());
            if node.member {
                out.push(way.clone());
            }
            node.below.collect(way, out);
            way.pop();
        }
    }
}

impl FromIterator<Vec<Element>> for Set {
    fn from_iter<T: IntoIterator<Item = Vec<Element>>>(paths: T) -> Self {
        let mut set = Self::default();
        paths.into_iter().for_each(|path| set.insert(&path));
        set
    }
}
