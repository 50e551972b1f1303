//! What a call costs when it is made.

use crate::limits::{AUTHORIZER_CHECK_COST, LIST_CREATE_COST, REGEX_FACTOR, STRING_FACTOR, STRUCT_CREATE_COST};
use crate::value::{Opaque, Value};

/// How the cost of a call is found from its arguments and its result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    Fixed(u64),
    /// A part of an argument's size.
    Size {
        arg: usize,
        factor: f64,
    },
    /// Reading all of the first argument.
    Traversal,
    /// The characters of both arguments.
    Concat,
    /// The characters of the smaller argument.
    Smaller,
    /// A regular expression on a text.
    Regex,
    /// A part that is looked for in a text.
    Substring,
    /// A selector that is read.
    Selector,
    /// The characters of the result, twice.
    Join,
    ContainsIp {
        parse: bool,
    },
    ContainsCidr {
        parse: bool,
    },
    /// A named format.
    Validate,
    /// As many elements as come out.
    Output,
    Flatten,
    /// Each element of an argument with each.
    SelfCompare {
        arg: usize,
    },
    /// Each element of one argument with each of the other.
    Sets {
        factor: f64,
    },
}

fn part(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn allocating(factor: f64, size: u64) -> u64 {
    ((size as f64 * factor) as u64).saturating_add(1 + LIST_CREATE_COST)
}

/// Reading a selector of so many characters.
fn selector(size: u64) -> u64 {
    let requirements = part(size, 0.5);
    LIST_CREATE_COST + part(size, STRING_FACTOR) + part(requirements, (LIST_CREATE_COST + STRUCT_CREATE_COST) as f64)
}

impl Rule {
    /// What is known before the call.
    pub fn before(self, args: &[Value<'_>]) -> u64 {
        let size = |n: usize| args.get(n).map_or(1, Value::size);
        match self {
            Self::Fixed(cost) => cost,
            Self::Size { arg, factor } => part(size(arg), factor),
            Self::Traversal => args.first().map_or(0, Value::traversal_cost),
            Self::Concat => part(size(0).saturating_add(size(1)), STRING_FACTOR),
            Self::Smaller => part(size(0).min(size(1)), STRING_FACTOR),
            Self::Regex => regex(size(0), size(1)),
            Self::Substring => part(size(0), STRING_FACTOR).saturating_mul(part(size(1), STRING_FACTOR)),
            Self::Selector => selector(size(1)),
            Self::ContainsIp { parse } => {
                part(2 * size(0), STRING_FACTOR) + if parse { part(size(1), STRING_FACTOR) } else { 0 }
            }
            Self::ContainsCidr { parse } => {
                let parsed = if parse { part(size(1), STRING_FACTOR) } else { 0 };
                part(2 * size(0), STRING_FACTOR) + part(size(0), STRING_FACTOR) + 1 + parsed
            }
            Self::Validate => match args {
                [Value::Opaque(format), text] => match &**format {
                    Opaque::Format(name) => regex(text.size(), crate::library::regex_size(name)),
                    _ => 1,
                },
                _ => 1,
            },
            Self::Flatten => {
                let depth = if let Some(Value::Int(depth)) = args.get(1) { *depth as f64 } else { 1.0 };
                allocating(depth, size(0))
            }
            Self::SelfCompare { arg } => {
                let first = match args.get(arg) {
                    Some(Value::List(list)) => list.get(0),
                    _ => None,
                };
                let texts = matches!(first, Some(Ok(Value::String(_) | Value::Bytes(_))));
                let size = size(arg);
                allocating(if texts { 2.0 + STRING_FACTOR } else { 2.0 }, size.saturating_mul(size))
            }
            Self::Sets { factor } => ((size(0).saturating_mul(size(1)) as f64 * factor) as u64).saturating_add(1),
            Self::Join | Self::Output => 0,
        }
    }

    /// What is known after the call.
    pub fn after(self, result: Option<&Value<'_>>) -> u64 {
        let size = result.map_or(1, Value::size);
        match self {
            Self::Join => part(size, 2.0 * STRING_FACTOR),
            Self::Output => allocating(1.0, size),
            _ => 0,
        }
    }
}

fn regex(text: u64, pattern: u64) -> u64 {
    part(text.saturating_add(1), STRING_FACTOR).saturating_mul(part(pattern, REGEX_FACTOR))
}

/// The rule of a function; the overload is known if only one can be meant.
pub(crate) fn rule(function: &str, overload: Option<&str>) -> Rule {
    by_extension(overload.unwrap_or_default())
        .or_else(|| by_function(function, overload.unwrap_or_default()))
        .unwrap_or_else(|| by_overload(overload.unwrap_or_default()))
}

/// Rules that come with the lists and sets of the extensions.
fn by_extension(overload: &str) -> Option<Rule> {
    Some(match overload {
        "list_slice" | "lists_range" | "list_reverse" => Rule::Output,
        "list_flatten" | "list_flatten_int" => Rule::Flatten,
        "list_distinct" => Rule::SelfCompare { arg: 0 },
        "list_sets_contains_list" | "list_sets_intersects_list" => Rule::Sets { factor: 1.0 },
        "list_sets_equivalent_list" => Rule::Sets { factor: 2.0 },
        other if other.starts_with("list_") && other.ends_with("_sort") => Rule::SelfCompare { arg: 0 },
        other if other.starts_with("list_") && other.ends_with("_sortByAssociatedKeys") => Rule::SelfCompare { arg: 1 },
        _ => return None,
    })
}

/// Kubernetes' rules go by the name of the function.
fn by_function(function: &str, overload: &str) -> Option<Rule> {
    Some(match function {
        "check" => Rule::Fixed(AUTHORIZER_CHECK_COST),
        "fieldSelector" | "labelSelector" => Rule::Selector,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Rule::Traversal,
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => Rule::Size { arg: 0, factor: STRING_FACTOR },
        "ip" if overload == "cidr_ip" => Rule::Fixed(1),
        "ip" => Rule::Size { arg: 0, factor: STRING_FACTOR },
        "replace" | "split" | "ip.isCanonical" => Rule::Size { arg: 0, factor: 2.0 * STRING_FACTOR },
        "join" => Rule::Join,
        "find" | "findAll" => Rule::Regex,
        "containsIP" => Rule::ContainsIp { parse: overload == "cidr_contains_ip_string" },
        "containsCIDR" => Rule::ContainsCidr { parse: overload == "cidr_contains_cidr_string" },
        "validate" => Rule::Validate,
        _ => return None,
    })
}

/// The language's rules go by the overload.
fn by_overload(overload: &str) -> Rule {
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
        | "string_format" => Rule::Size { arg: 0, factor: STRING_FACTOR },
        "in_list" => Rule::Size { arg: 1, factor: 1.0 },
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes" => Rule::Smaller,
        "add_string" | "add_bytes" => Rule::Concat,
        "matches_string" => Rule::Regex,
        "contains_string" => Rule::Substring,
        _ => Rule::Fixed(1),
    }
}

/// What comparing for equality costs.
pub(crate) fn equality(a: Option<&Value<'_>>, b: Option<&Value<'_>>, negated: bool) -> u64 {
    if !negated && matches!(a, Some(Value::Opaque(_))) {
        return 1;
    }
    part(a.map_or(1, Value::size).min(b.map_or(1, Value::size)), STRING_FACTOR)
}
