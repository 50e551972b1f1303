//! Walks over an object along its schema. Objects come from a decoder that bounds their depth.
//!
//! Invariant: a walk costs as much as its object is large. A path is only written for what is wrong, and no more than [`MAX_NAMED`]
//! things are named.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use super::{Kind, Node};
use crate::StrictError;

const MAX_NAMED: usize = 100;
/// Characters of a name that are shown in a path.
const MAX_NAME: usize = 256;
/// Fields of an object that all kinds have.
pub(super) const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The way from the root to a place, linked through the stack.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    fn field(parent: Option<&'a At<'a>>, name: &'a str) -> Self {
        // What is shown of a name: keys of maps can be as long as the object.
        let shown = name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end]);
        Self { parent, step: Step::Field(shown) }
    }

    fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = vec![self.step];
        let mut place = self.parent;
        while let Some(at) = place {
            steps.push(at.step);
            place = at.parent;
        }
        steps.reverse();
        steps
    }

    fn path(&self) -> Path {
        let mut path: Option<Path> = None;
        for step in self.steps() {
            path = match (path, step) {
                (None, Step::Field(name)) => Some(Path::new(name)),
                (None, Step::Index(at)) => Some(Path::new("").index(at)),
                (Some(path), Step::Field(name)) => Some(path.child(name)),
                (Some(path), Step::Index(at)) => Some(path.index(at)),
            };
        }
        path.unwrap_or_else(|| Path::new(""))
    }
}

fn prune(node: &Node, value: &mut Value, at: At<'_>, strict: &mut Vec<StrictError>) {
    match value {
        Value::Object(object) => prune_object(node, object, Some(&at), strict),
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (index, item) in list.iter_mut().enumerate() {
                prune(items, item, At { parent: Some(&at), step: Step::Index(index) }, strict);
            }
        }
        _ => {}
    }
}

/// Drops the fields of an object that its node does not know, but those that all kinds have.
pub(super) fn prune_root(node: &Node, object: &mut Map<String, Value>, strict: &mut Vec<StrictError>) {
    prune_object(node, object, None, strict);
}

fn prune_object(node: &Node, object: &mut Map<String, Value>, at: Option<&At<'_>>, strict: &mut Vec<StrictError>) {
    object.retain(|name, _| {
        let known = node.properties.contains_key(name.as_str()) || node.additional.is_some() || node.preserves_unknown;
        if !known && strict.len() < MAX_NAMED {
            strict.push(StrictError::UnknownField(At::field(at, name).path().to_string()));
        }
        known
    });
    for (name, value) in object {
        if let Some(node) = node.properties.get(name.as_str()).or(node.additional.as_deref()) {
            prune(node, value, At::field(at, name), strict);
        }
    }
}

/// Fills in defaults, but in what all kinds have.
pub(super) fn default_root(node: &Node, value: &mut Value) {
    if let Value::Object(object) = value {
        default_object(node, object, true);
    }
}

fn default_object(node: &Node, object: &mut Map<String, Value>, is_root: bool) {
    let own = |name: &str| is_root && OWN.contains(&name);
    for (name, field) in node.properties.iter().filter(|(name, _)| !own(name)) {
        let Some(default) = &field.default else { continue };
        // A null where none may be counts as left out.
        match object.get(&**name) {
            None => {}
            Some(Value::Null) if !field.nullable => {}
            Some(_) => continue,
        }
        object.insert(name.to_string(), (**default).clone());
    }
    for (name, value) in object.iter_mut().filter(|(name, _)| !own(name)) {
        if let Some(node) = node.properties.get(name.as_str()).or(node.additional.as_deref()) {
            default(node, value);
        }
    }
}

fn default(node: &Node, value: &mut Value) {
    match value {
        Value::Object(object) => default_object(node, object, false),
        Value::Array(list) => {
            if let Some(items) = &node.items {
                list.iter_mut().for_each(|item| default(items, item));
            }
        }
        _ => {}
    }
}

/// What is of a wrong type or missing, in upstream's words.
pub(super) fn validate(node: &Node, value: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Value::Object(object) = value {
        fields(node, object, None, &mut errors);
    }
    errors
}

fn fields(node: &Node, object: &Map<String, Value>, at: Option<&At<'_>>, errors: &mut ErrorList) {
    for name in node.required.iter().filter(|name| !object.contains_key(&***name)) {
        if errors.len() < MAX_NAMED {
            errors.push(Error::required(&At::field(at, name).path(), ""));
        }
    }
    for (name, value) in object {
        let own = at.is_none() && OWN.contains(&name.as_str());
        let field = node.properties.get(name.as_str()).or(node.additional.as_deref());
        if let Some(node) = field.filter(|_| !own) {
            check(node, value, At::field(at, name), errors);
        }
    }
}

fn check(node: &Node, value: &Value, at: At<'_>, errors: &mut ErrorList) {
    if errors.len() >= MAX_NAMED || (value.is_null() && node.nullable) {
        return;
    }
    let (fits, wanted) = match node.kind {
        Kind::Any => (true, ""),
        Kind::Object => (value.is_object(), "object"),
        Kind::Array => (value.is_array(), "array"),
        Kind::String => (value.is_string(), "string"),
        Kind::Integer => (is_whole(value), "integer"),
        Kind::Number => (value.is_number(), "number"),
        Kind::Boolean => (value.is_boolean(), "boolean"),
        Kind::IntOrString => (value.is_string() || is_whole(value), "integer,string"),
    };
    if !fits {
        let (path, found) = (at.path(), found(value));
        let detail = format!("{path} in body must be of type {wanted}: \"{found}\"");
        errors.push(Error::type_invalid(&path, found, detail));
        return;
    }
    match value {
        Value::Object(object) => fields(node, object, Some(&at), errors),
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (index, item) in list.iter().enumerate() {
                check(items, item, At { parent: Some(&at), step: Step::Index(index) }, errors);
            }
        }
        _ => {}
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
