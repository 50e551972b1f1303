//! Expressions as trees in one arena.
//!
//! Invariants: an [`Id`] is only used with the tree that it came from; children have been added before their parents, so that the tree has
//! no cycles; its depth is bounded by the parser's limits.

use std::sync::Arc;

use crate::source::{Offset, Source};

/// Macros that copy what they are called on double it, and can be chained: this ends it. The longest texts have fewer nodes.
pub(crate) const MAX_NODES: usize = 1 << 18;

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

impl Id {
    /// Where tables beside the tree have what belongs to the node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A constant in the text.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// An entry of a map, or with a literal key a field of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// A node of its own: what is wrong with the entry is shown at its colon.
    pub id: Id,
    pub key: Id,
    pub value: Id,
    pub optional: bool,
}

/// A field of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub id: Id,
    pub name: Arc<str>,
    pub value: Id,
    pub optional: bool,
}

/// What macros expand to: `accumulator` begins as `init`, becomes `step` for each element while `condition` holds, and `result` is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Comprehension {
    pub variable: Arc<str>,
    /// With two variables the first is a key or an index, and this is a value.
    pub second: Option<Arc<str>>,
    pub range: Id,
    pub accumulator: Arc<str>,
    pub init: Id,
    pub condition: Id,
    pub step: Id,
    pub result: Id,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Stands where something is wrong, or for the place of an entry.
    Nothing,
    Literal(Literal),
    Ident(Arc<str>),
    Select {
        operand: Id,
        field: Arc<str>,
        test_only: bool,
    },
    Call {
        function: Arc<str>,
        target: Option<Id>,
        args: Vec<Id>,
    },
    List {
        elements: Vec<Id>,
        optional: Vec<usize>,
    },
    Map(Vec<Entry>),
    Struct {
        name: Arc<str>,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

/// A parsed expression.
#[derive(Debug, Clone)]
pub struct Ast {
    source: Source,
    nodes: Vec<Kind>,
    offsets: Vec<Offset>,
    root: Id,
}

impl Ast {
    /// No expression yet.
    pub(crate) fn new(source: Source) -> Self {
        Self { source, nodes: vec![Kind::Nothing], offsets: vec![Offset::NONE], root: Id(0) }
    }

    /// The text.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where to begin.
    pub fn root(&self) -> Id {
        self.root
    }

    pub(crate) fn set_root(&mut self, root: Id) {
        self.root = root;
    }

    /// How many nodes there are: ids are below that.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What a node is.
    pub fn kind(&self, id: Id) -> &Kind {
        self.nodes.get(id.index()).unwrap_or(&Kind::Nothing)
    }

    /// Where a node is in the text.
    pub fn offset(&self, id: Id) -> Offset {
        self.offsets.get(id.index()).copied().unwrap_or(Offset::NONE)
    }

    /// Adds a node.
    pub(crate) fn add(&mut self, offset: Offset, kind: Kind) -> Id {
        // The parser's limit of 100,000 code points keeps the number of nodes far below 2³².
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(kind);
        self.offsets.push(offset);
        id
    }

    /// Gives a node another content, which must consist of nodes that are no ancestors of it.
    pub(crate) fn replace(&mut self, id: Id, kind: Kind) {
        if let Some(node) = self.nodes.get_mut(id.index()) {
            *node = kind;
        }
    }

    /// Whether macros have made more of the text than can be meant.
    pub(crate) fn is_full(&self) -> bool {
        self.nodes.len() > MAX_NODES
    }

    /// Copies a node with all below it; in a full tree nothing.
    pub(crate) fn copy(&mut self, id: Id) -> Id {
        if self.is_full() {
            return Id(0);
        }
        let kind = match self.kind(id).clone() {
            kind @ (Kind::Nothing | Kind::Literal(_) | Kind::Ident(_)) => kind,
            Kind::Select { operand, field, test_only } => {
                Kind::Select { operand: self.copy(operand), field, test_only }
            }
            Kind::Call { function, target, args } => {
                let target = target.map(|it| self.copy(it));
                Kind::Call { function, target, args: self.copy_all(&args) }
            }
            Kind::List { elements, optional } => Kind::List { elements: self.copy_all(&elements), optional },
            Kind::Map(entries) => Kind::Map(entries.into_iter().map(|entry| self.copy_entry(&entry)).collect()),
            Kind::Struct { name, fields } => {
                let fields = fields.into_iter().map(|field| Field {
                    id: self.copy(field.id),
                    value: self.copy(field.value),
                    ..field
                });
                Kind::Struct { name, fields: fields.collect() }
            }
            Kind::Comprehension(it) => Kind::Comprehension(Box::new(Comprehension {
                range: self.copy(it.range),
                init: self.copy(it.init),
                condition: self.copy(it.condition),
                step: self.copy(it.step),
                result: self.copy(it.result),
                ..*it
            })),
        };
        let offset = self.offset(id);
        self.add(offset, kind)
    }

    fn copy_all(&mut self, ids: &[Id]) -> Vec<Id> {
        ids.iter().map(|id| self.copy(*id)).collect()
    }

    fn copy_entry(&mut self, entry: &Entry) -> Entry {
        Entry {
            id: self.copy(entry.id),
            key: self.copy(entry.key),
            value: self.copy(entry.value),
            optional: entry.optional,
        }
    }

    /// Calls a function for a node and all below it, parents first.
    pub(crate) fn walk(&self, id: Id, visit: &mut dyn FnMut(Id, &Kind)) {
        let kind = self.kind(id);
        visit(id, kind);
        self.children(kind, &mut |child| self.walk(child, visit));
    }

    /// The children of a node, in the order in which upstream visits them.
    pub(crate) fn children(&self, kind: &Kind, visit: &mut dyn FnMut(Id)) {
        match kind {
            Kind::Nothing | Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => visit(*operand),
            Kind::Call { target, args, .. } => target.iter().chain(args).for_each(|id| visit(*id)),
            Kind::List { elements, .. } => elements.iter().for_each(|id| visit(*id)),
            Kind::Map(entries) => entries.iter().flat_map(|entry| [entry.key, entry.value]).for_each(visit),
            Kind::Struct { fields, .. } => fields.iter().for_each(|field| visit(field.value)),
            Kind::Comprehension(it) => {
                [it.range, it.init, it.condition, it.step, it.result].into_iter().for_each(visit)
            }
        }
    }

    /// `a.b.c` as a text, where a node is such a chain.
    pub(crate) fn qualified_name(&self, id: Id) -> Option<String> {
        match self.kind(id) {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test_only: false } => {
                let mut name = self.qualified_name(*operand)?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}
