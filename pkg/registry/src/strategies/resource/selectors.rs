//! Selectors of devices: expressions over what drivers say of them.

use std::sync::{Arc, LazyLock};

use kedge_cel::decl::{Decl, Shape};
use kedge_cel::{Env, Expressions, Library, SizeEstimate, SizeHints, Type};
use kedge_meta::field::{Error, ErrorList};

use super::super::validation::At;
use super::items;

const MAX_SELECTORS: usize = 32;
const MAX_EXPRESSION: usize = 10 << 10;
const MAX_COST: u64 = 1_000_000;
/// Attributes and capacities of a device.
const MAX_NAMES: u64 = 32;
const MAX_DOMAIN: u64 = 63;
const MAX_ID: u64 = 32;
/// What an attribute's text is long at most.
const MAX_VALUE: u64 = 64;
const QUANTITY: &str = "kubernetes.Quantity";

/// What expressions see. Of an attribute it comes up when they run what it is.
static DEVICE: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let of_domains = |value: Decl| {
        let of_domain = Decl::map(Decl::string(MAX_ID), value, MAX_NAMES);
        Decl::map(Decl::string(MAX_DOMAIN), of_domain, MAX_NAMES)
    };
    Arc::new(Decl::object(
        "kubernetes.DRADevice",
        [
            ("driver", Decl::string(MAX_DOMAIN)),
            ("allowMultipleAllocations", Decl::new(Shape::Bool, 1, 4)),
            ("attributes", of_domains(Decl::of_type(Type::Any, MAX_VALUE))),
            ("capacity", of_domains(Decl::of_type(Type::object(QUANTITY), 0))),
        ],
    ))
});

static NEW: LazyLock<Env> = LazyLock::new(|| environment(Expressions::NEW));
static STORED: LazyLock<Env> = LazyLock::new(|| environment(Expressions::Stored));

fn environment(expressions: Expressions) -> Env {
    Env::builder(expressions).typed_variable("device", &DEVICE).library(Library::Bindings).build()
}

/// Sizes of what is in a device. Every attribute of a domain is as large as any other, whatever it is called.
struct Sizes;

impl SizeHints for Sizes {
    fn size(&self, path: &[Arc<str>]) -> Option<SizeEstimate> {
        let (variable, steps) = path.split_first()?;
        let root: &Decl = Some(&**DEVICE).filter(|_| **variable == *"device")?;
        let found = steps.iter().try_fold(root, |decl, step| {
            decl.step(step).or_else(|| match &decl.shape {
                Shape::Map { value, .. } if value.cel_type() == Some(Type::Any) => Some(value),
                _ => None,
            })
        })?;
        Some(SizeEstimate { min: 0, max: found.max_elements })
    }
}

/// The selectors of a class or of a request. Those that were stored before may use all that there is.
pub(super) fn selectors(at: &At<'_>, stored: bool, errors: &mut ErrorList) {
    items::list(at, MAX_SELECTORS, errors, |selector, errors| {
        let cel = selector.child("cel");
        if !cel.is_set() {
            errors.push(cel.required(""));
            return;
        }
        errors.extend(fault(&cel.child("expression"), stored));
    });
}

/// What is wrong with an expression.
fn fault(at: &At<'_>, stored: bool) -> Option<Error> {
    let text = at.text();
    if text.len() > MAX_EXPRESSION {
        return Some(Error::too_long(&at.path, MAX_EXPRESSION));
    }
    let invalid = |why: String| Some(Error::invalid(&at.path, text, why));
    let env: &Env = if stored { &STORED } else { &NEW };
    let checked = match env.check(text) {
        Ok(checked) => checked,
        Err(err) => return invalid(format!("compilation failed: {err}")),
    };
    let of = checked.result_type();
    if !matches!(of, Type::Bool | Type::Any) {
        return invalid(format!("must evaluate to bool or the unknown type, not {of}"));
    }
    if let Err(err) = checked.program() {
        return Some(Error::internal(&at.path, format!("program instantiation failed: {err}")));
    }
    let dear = checked.estimate(&Sizes).max > MAX_COST;
    dear.then(|| at.forbidden("too complex, exceeds cost limit"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn said(selector: serde_json::Value) -> Vec<String> {
        let (object, mut errors) = (json!({"selectors": [selector]}), ErrorList::new());
        selectors(&At::field(&object, "selectors"), false, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn said_of(expression: &str) -> String {
        said(json!({"cel": {"expression": expression}})).join("; ")
    }

    /// The costs are those that upstream's tests expect.
    #[test]
    fn what_an_expression_costs_follows_from_what_devices_may_be() {
        for (cost, expression) in [
            (2, "device.driver == ''"),
            (4, "device.driver == 'dra.example.com'"),
            (4, "device.attributes['dra.example.com'].name"),
            (5, "device.attributes['dra.example.com']['name'] == 'fish'"),
            (15, "cel.bind(dra, device.attributes['dra.example.com'], dra.name)"),
            (6, "device.attributes['dra.example.com'].name.isGreaterThan(semver('0.0.1'))"),
            (6, "device.capacity['dra.example.com'].name.isGreaterThan(quantity('1Ki'))"),
            (164, "device.attributes.exists_one(x, x == 'dra.example.com')"),
            (133, "device.attributes['dra.example.com'].exists_one(x, x == 'services')"),
            (19, "device.attributes['dra.example.com'].services.split('example').size() >= 2"),
            (18, "device.attributes['dra.example.com'].services.matches('[^a]?sym')"),
            (133, "device.capacity['dra.example.com'].exists_one(x, x == 'memory')"),
            (3, "device.allowMultipleAllocations == true"),
        ] {
            assert_eq!(NEW.check(expression).unwrap().estimate(&Sizes).max, cost, "{expression}");
            assert_eq!(said_of(expression), "");
        }
    }

    #[test]
    fn expressions_say_yes_or_no_of_a_device() {
        let at = "selectors[0].cel.expression";
        assert_eq!(said(json!({})), ["selectors[0].cel: Required value"]);
        assert_eq!(
            said_of("device.attributes[true].someBoolean"),
            format!(
                "{at}: Invalid value: \"device.attributes[true].someBoolean\": compilation failed: ERROR: <input>:1:18: found no \
                 matching overload for '_[_]' applied to '(map(string, map(string, any)), bool)'\n | \
                 device.attributes[true].someBoolean\n | .................^"
            )
        );
        assert_eq!(
            said_of("1"),
            format!("{at}: Invalid value: \"1\": must evaluate to bool or the unknown type, not int")
        );
        assert!(said_of("device.attributes['a'].b.includes('c')").contains("undeclared reference to 'includes'"));
        let long = format!("device.driver == '{}'", "x".repeat(MAX_EXPRESSION - 19));
        assert_eq!(said_of(&long), "");
        assert_eq!(said_of(&format!(" {long}")), format!("{at}: Too long: may not be more than 10240 bytes"));
        let nested = |inner: &str| format!("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].all(x, {inner})");
        let dear = (0..7).fold("int('1'.find('[0-9]*')) < 100".to_owned(), |inner, _| nested(&inner));
        assert_eq!(said_of(&dear), format!("{at}: Forbidden: too complex, exceeds cost limit"));
    }
}
