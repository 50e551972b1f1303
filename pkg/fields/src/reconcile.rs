//! Sets that were written when the schema of their kind was another: what was many values may be one now.

use crate::element::Element;
use crate::set::Set;
use crate::types::{Form, Items, Type};

/// The set as the type would have it now.
pub(crate) fn reconcile(ty: Type<'_>, set: Set) -> Set {
    let mut out = Set::default();
    for node in set.nodes {
        let below = match &node.element {
            Element::Field(name) if ty.forms().form() == Form::Map => ty.field(name),
            Element::Key(_) | Element::Item(_) if ty.forms().form() == Form::List => Some(ty.item()),
            _ => None,
        };
        // What the schema does not know is left as it is.
        let Some(below) = below else {
            out.push(node.element, node.member, node.below);
            continue;
        };
        let is_atomic = match below.forms().form() {
            Form::Map => below.is_atomic_map(),
            Form::List => below.items() == Items::Atomic,
            Form::Scalar(_) => false,
        };
        if is_atomic && !node.below.is_empty() {
            out.push(node.element, true, Set::default());
        } else {
            let inner = reconcile(below, node.below);
            out.push(node.element, node.member, inner);
        }
    }
    out
}
