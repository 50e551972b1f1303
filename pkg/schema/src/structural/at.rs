//! The way from the root of an object to a place in it, linked through the stack: its text is only written for what is wrong.

use kedge_meta::field::Path;
use serde_json::Value;

use super::Node;

/// Things that are named at most.
pub(super) const MAX_NAMED: usize = 100;
/// Characters of a name that are shown in a path.
const MAX_NAME: usize = 256;
/// Fields of an object that all kinds have.
pub(super) const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A place in an object, below another one or below the root.
#[derive(Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// A field.
    pub fn field(parent: Option<&'a At<'a>>, name: &'a str) -> Self {
        Self { parent, step: Step::Field(shown(name)) }
    }

    /// An entry of a map, with its key in brackets.
    pub fn key(parent: Option<&'a At<'a>>, name: &'a str) -> Self {
        Self { parent, step: Step::Key(shown(name)) }
    }

    /// An item of a list.
    pub fn index(parent: Option<&'a At<'a>>, index: usize) -> Self {
        Self { parent, step: Step::Index(index) }
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

    /// Its path from the root.
    pub fn path(&self) -> Path {
        self.steps().into_iter().fold(Path::default(), |path, step| match step {
            Step::Field(name) => path.child(name),
            Step::Key(name) => path.key(name),
            Step::Index(at) => path.index(at),
        })
    }
}

/// Calls for each value within one that the schema describes.
pub(super) fn below(
    node: &Node,
    value: &Value,
    at: Option<&At<'_>>,
    visit: &mut dyn FnMut(&Node, &Value, Option<&At<'_>>),
) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(field) = node.properties.get(name.as_str()).or(node.additional.as_deref()) {
                    visit(field, value, Some(&At::field(at, name)));
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(schema) = &node.items {
                    visit(schema, item, Some(&At::index(at, index)));
                }
            }
        }
        _ => {}
    }
}

/// What is shown of a name: keys of maps can be as long as the object.
fn shown(name: &str) -> &str {
    name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end])
}

/// The path of a place; none for the root.
pub(super) fn path(at: Option<&At<'_>>) -> Path {
    at.map_or_else(Path::default, At::path)
}
