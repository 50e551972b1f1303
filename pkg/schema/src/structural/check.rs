//! What of an object breaks the rules of its schema, in upstream's words and order.
//!
//! On an update, what is wrong with a value that is as it was is let go, place by place: a schema that became stricter does not lock up the
//! objects that there are.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::{Map, Number, Value};

use super::at::{At, MAX_NAMED, OWN, path};
use super::{Checks, Kind, Node};
use crate::table::ListType;

/// Faults, and how much of the schema was looked at: of several alternatives that fail, that which got furthest is told of.
#[derive(Default)]
struct Found {
    errors: ErrorList,
    count: usize,
}

impl Found {
    fn add(&mut self, error: Error) {
        if self.errors.len() < MAX_NAMED {
            self.errors.push(error);
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        other.errors.into_iter().for_each(|error| self.add(error));
    }
}

/// What is wrong with an object, but for what all kinds have, or with a part of it, such as its status. Paths begin there.
pub fn check(node: &Node, value: &Value, old: Option<&Value>) -> ErrorList {
    let mut found = Found::default();
    place(node, value, old, None, &mut found);
    found.errors
}

fn place(node: &Node, value: &Value, old: Option<&Value>, at: Option<&At<'_>>, found: &mut Found) {
    let before = found.errors.len();
    value_of(node, value, old, at, found);
    if found.errors.len() > before && old == Some(value) {
        found.errors.truncate(before);
    }
}

fn value_of(node: &Node, value: &Value, old: Option<&Value>, at: Option<&At<'_>>, found: &mut Found) {
    let checks = node.checks.as_deref();
    if node.kind != Kind::Any || checks.is_some_and(|checks| checks.format.is_some()) {
        found.count += 1;
        match type_fault(node, value, at) {
            None => found.count += 1,
            Some(error) => found.add(error),
        }
    }
    if value.is_null() {
        enumerated(checks, value, at, found);
        return;
    }
    if let Some(checks) = checks {
        alternatives(checks, value, old, at, found);
    }
    found.count += 2;
    match value {
        Value::String(text) => string(node, text, at, found),
        Value::Number(number) => numeric(node, number, at, found),
        Value::Array(items) => list(node, items, old, at, found),
        _ => {}
    }
    enumerated(checks, value, at, found);
    if let Value::Object(fields) = value {
        object(node, fields, old, at, found);
    }
    found.count += 1;
}

/// The name by which messages call the type.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "object",
        Kind::Array => "array",
        Kind::String => "string",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Boolean => "boolean",
        Kind::IntOrString => "integer,string",
        Kind::Any => "",
    }
}

fn type_fault(node: &Node, value: &Value, at: Option<&At<'_>>) -> Option<Error> {
    let fits = match node.kind {
        Kind::Any => true,
        Kind::Object => value.is_object(),
        Kind::Array => value.is_array(),
        Kind::String => value.is_string(),
        Kind::Integer => is_whole(value),
        Kind::Number => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        Kind::IntOrString => value.is_string() || is_whole(value),
    };
    if fits || (value.is_null() && node.nullable) {
        return None;
    }
    let path = path(at);
    let format = node.checks.as_deref().and_then(|checks| checks.format.as_ref());
    let (wanted, found) = match format {
        // Upstream names the formats where both have one.
        Some(format) if !matches!(value, Value::Null | Value::String(_) | Value::Array(_)) => {
            (format.name(), format_of(value))
        }
        _ => (type_name(node.kind), type_of(value)),
    };
    let detail = format!("{path} in body must be of type {wanted}: {found:?}");
    Some(Error::type_invalid(&path, found, detail))
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() <= LARGEST_WHOLE)
}

/// Whole numbers above that are not told apart where numbers are floats.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_991.0;

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn format_of(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        _ => "",
    }
}

fn alternatives(checks: &Checks, value: &Value, old: Option<&Value>, at: Option<&At<'_>>, found: &mut Found) {
    let apart = |node: &Node| {
        let mut found = Found::default();
        value_of(node, value, old, at, &mut found);
        found
    };
    let shown = || at.map_or_else(String::new, |at| at.path().to_string());
    let say = |text: String| Error::invalid(&Path::default(), "", text);
    if !checks.any_of.is_empty() {
        let (success, best) = tried(&checks.any_of, &apart, true);
        if success.is_empty() {
            found.add(say(format!("{:?} must validate at least one schema (anyOf)", shown())));
        }
        success.into_iter().next().or(best).into_iter().for_each(|result| found.merge(result));
    }
    if !checks.one_of.is_empty() {
        let (mut success, best) = tried(&checks.one_of, &apart, false);
        match success.len() {
            1 => success.drain(..).for_each(|result| found.merge(result)),
            0 => {
                found
                    .add(say(format!("{:?} must validate one and only one schema (oneOf). Found none valid", shown())));
                best.into_iter().for_each(|result| found.merge(result));
            }
            many => found.add(say(format!(
                "{:?} must validate one and only one schema (oneOf). Found {many} valid alternatives",
                shown()
            ))),
        }
    }
    if !checks.all_of.is_empty() {
        let mut valid = 0;
        for node in &*checks.all_of {
            let result = apart(node);
            valid += usize::from(result.errors.is_empty());
            found.merge(result);
        }
        if valid != checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            found.add(say(format!("{:?} must validate all the schemas (allOf){none}", shown())));
        }
    }
    if let Some(not) = &checks.not
        && apart(not).errors.is_empty()
    {
        found.add(say(format!("{:?} must not validate the schema (not)", shown())));
    }
}

/// Those of the schemas that a value fits, all or just the first, and of the others the result that got furthest.
fn tried(nodes: &[Node], apart: &dyn Fn(&Node) -> Found, first: bool) -> (Vec<Found>, Option<Found>) {
    let (mut success, mut best): (Vec<Found>, Option<Found>) = (Vec::new(), None);
    for node in nodes {
        let result = apart(node);
        if result.errors.is_empty() {
            success.push(result);
            if first {
                break;
            }
        } else if best.as_ref().is_none_or(|best| result.count > best.count) {
            best = Some(result);
        }
    }
    (success, best)
}

fn string(node: &Node, text: &str, at: Option<&At<'_>>, found: &mut Found) {
    found.count += 1;
    let Some(checks) = node.checks.as_deref() else { return };
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = checks.max_length.filter(|max| length() > *max) {
        found.add(Error::too_long(&path(at), usize::try_from(max).unwrap_or_default()));
    } else if let Some(min) = checks.min_length.filter(|min| length() < *min) {
        let path = path(at);
        found.add(Error::invalid(&path, text, format!("{path} in body should be at least {min} chars long")));
    } else if let Some(pattern) = &checks.pattern {
        let wanted = match pattern.compiled() {
            Ok(regexp) if regexp.is_match(text) => None,
            Ok(_) => Some(pattern.text.to_string()),
            Err(why) => Some(format!("{}, but pattern is invalid: {why}", pattern.text)),
        };
        if let Some(wanted) = wanted {
            let path = path(at);
            found.add(Error::invalid(&path, text, format!("{path} in body should match '{wanted}'")));
        }
    }
    if let Some(format) = checks.format.as_ref().filter(|format| format.is_of_strings()) {
        found.count += 1;
        if !format.accepts(text) {
            let path = path(at);
            let detail = format!("{path} in body must be of type {}: {text:?}", format.name());
            found.add(Error::type_invalid(&path, text, detail));
        }
    }
}

fn numeric(node: &Node, number: &Number, at: Option<&At<'_>>, found: &mut Found) {
    found.count += 2;
    let checks = node.checks.as_deref();
    let format = checks.and_then(|checks| checks.format.as_ref());
    let says = |prefix: &str, type_name: &str| {
        let format = format.map_or("(default format)".to_owned(), |format| format!("with format {}", format.name()));
        let text = format!("{prefix} value must be of type {type_name} {format} in {}", path(at));
        Error::invalid(&Path::default(), "", text)
    };
    let float = number.as_f64().unwrap_or_default();
    let whole = whole(number);
    match node.kind {
        Kind::Integer if whole.is_none() => found.add(says("Checked", "integer")),
        Kind::Integer if format.is_some_and(|f| f.name() == "int32") && !whole.is_some_and(fits_in_32_bits) => {
            found.add(says("Checked", "integer"));
        }
        Kind::Number if format.is_some_and(|f| f.name() == "float") && float.abs() > f64::from(f32::MAX) => {
            found.add(says("Checked", "number"));
        }
        _ => {}
    }
    let Some(checks) = checks else { return };
    let place = || path(at);
    let native = number.as_i64();
    let broken = |text: &str, bound: f64| {
        let path = place();
        let bound = if native.is_some() { (bound as i64).to_string() } else { go_float(bound) };
        Error::invalid(&path, number, format!("{path} in body should be {text} {bound}"))
    };
    if let Some(factor) = checks.multiple_of {
        let fits = match native {
            Some(value) => matches!(factor as i64, factor if factor > 0 && value % factor == 0),
            None => factor > 0.0 && ((float / factor) - (float / factor).round()).abs() < 1e-9,
        };
        if !fits {
            found.add(broken("a multiple of", factor));
        }
    }
    let order = |bound: f64| match native {
        // As upstream: what is behind the point of a bound does not count for whole numbers.
        Some(value) => value.cmp(&(bound as i64)),
        None => float.partial_cmp(&bound).unwrap_or(std::cmp::Ordering::Equal),
    };
    if let Some(min) = checks.minimum {
        match (order(min), checks.exclusive_minimum) {
            (std::cmp::Ordering::Less, false) => found.add(broken("greater than or equal to", min)),
            (std::cmp::Ordering::Less | std::cmp::Ordering::Equal, true) => found.add(broken("greater than", min)),
            _ => {}
        }
    }
    if let Some(max) = checks.maximum {
        match (order(max), checks.exclusive_maximum) {
            (std::cmp::Ordering::Greater, false) => found.add(broken("less than or equal to", max)),
            (std::cmp::Ordering::Greater | std::cmp::Ordering::Equal, true) => found.add(broken("less than", max)),
            _ => {}
        }
    }
}

fn fits_in_32_bits(whole: i64) -> bool {
    i32::try_from(whole).is_ok()
}

/// A number that is whole, if it is one of 64 bits.
fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9.2e18)?;
        Some(float as i64)
    })
}

/// As Go prints a float with `%v`.
fn go_float(float: f64) -> String {
    if float.abs() >= 1e21 || (float != 0.0 && float.abs() < 1e-4) {
        let text = format!("{float:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{float}")
}

fn list(node: &Node, items: &[Value], old: Option<&Value>, at: Option<&At<'_>>, found: &mut Found) {
    if let Some(schema) = &node.items {
        let olds = OldItems::of(node, old);
        for (index, item) in items.iter().enumerate() {
            if found.errors.len() >= MAX_NAMED {
                return;
            }
            place(schema, item, olds.get(node, item), Some(&At::index(at, index)), found);
        }
    }
    let Some(checks) = node.checks.as_deref() else { return };
    let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(min) = checks.min_items.filter(|min| size < *min) {
        let path = path(at);
        found.add(Error::invalid(&path, size, format!("{path} in body should have at least {min} items")));
    }
    if let Some(max) = checks.max_items.filter(|max| size > *max) {
        found.add(Error::too_many(&path(at), items.len(), usize::try_from(max).unwrap_or_default()));
    }
    found.count += 1;
}

/// The items of a list as it was, by their keys: those of other lists are not compared one by one.
struct OldItems<'a>(std::collections::HashMap<String, &'a Value>);

impl<'a> OldItems<'a> {
    fn of(node: &Node, old: Option<&'a Value>) -> Self {
        let list = old.and_then(Value::as_array).filter(|_| node.list_type == ListType::Map);
        Self(list.into_iter().flatten().map(|item| (key(node, item), item)).collect())
    }

    fn get(&self, node: &Node, item: &Value) -> Option<&'a Value> {
        if self.0.is_empty() { None } else { self.0.get(&key(node, item)).copied() }
    }
}

fn key(node: &Node, item: &Value) -> String {
    let values = node.map_keys.iter().map(|name| item.get(&**name).map_or(String::new(), Value::to_string));
    values.collect::<Vec<_>>().join("\0")
}

fn enumerated(checks: Option<&Checks>, value: &Value, at: Option<&At<'_>>, found: &mut Found) {
    found.count += 1;
    let Some(checks) = checks.filter(|checks| !checks.one_of_values.is_empty()) else { return };
    let same = |allowed: &Value| match (allowed, value) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Null, _) => false,
        (a, b) => a == b,
    };
    if checks.one_of_values.iter().any(same) {
        return;
    }
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let allowed: Vec<String> = checks.one_of_values.iter().map(shown).collect();
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    found.add(Error::not_supported_of(&path(at), value, &allowed));
}

fn object(node: &Node, fields: &Map<String, Value>, old: Option<&Value>, at: Option<&At<'_>>, found: &mut Found) {
    let size = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    let checks = node.checks.as_deref();
    if let Some(min) = checks.and_then(|checks| checks.min_properties).filter(|min| size < *min) {
        let path = path(at);
        found.add(Error::invalid(&path, size, format!("{path} in body should have at least {min} properties")));
    }
    if let Some(max) = checks.and_then(|checks| checks.max_properties).filter(|max| size > *max) {
        found.add(Error::too_many(&path(at), fields.len(), usize::try_from(max).unwrap_or_default()));
    }
    for (name, value) in fields {
        if found.errors.len() >= MAX_NAMED {
            return;
        }
        let own = at.is_none() && OWN.contains(&name.as_str());
        let field = node.properties.get(name.as_str()).or(node.additional.as_deref());
        if let Some(field) = field.filter(|_| !own) {
            let old = old.and_then(|old| old.get(name));
            place(field, value, old, Some(&At::field(at, name)), found);
        }
    }
    for name in node.required.iter().filter(|name| !fields.contains_key(&***name)) {
        found.add(Error::required(&At::field(at, name).path(), ""));
    }
    found.count += 1;
}
