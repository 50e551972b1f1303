//! Estimates of functions: first those of the extensions, then Kubernetes', which go by name, then the language's, which go by overload.

use super::estimate::{CostEstimate, Coster, Path};
use super::size::SizeEstimate;
use crate::ast::{Id, Kind, Literal};
use crate::limits::{AUTHORIZER_CHECK_COST, LIST_CREATE_COST, REGEX_FACTOR, STRING_FACTOR, STRUCT_CREATE_COST};
use crate::types::Type;

/// The longest format's name, and the longest expression of one.
const MAX_FORMAT: u64 = 64;
const MAX_FORMAT_REGEX: f64 = 128.0;
/// Values of a device's attribute.
const MAX_ATTRIBUTE_VALUES: u64 = 48;

/// An argument.
pub(super) struct Arg {
    pub id: Id,
    pub path: Option<Path>,
    pub size: Option<SizeEstimate>,
}

impl Arg {
    pub fn size_or_unknown(&self) -> SizeEstimate {
        self.size.unwrap_or(SizeEstimate::UNKNOWN)
    }
}

type Estimate = Option<(CostEstimate, Option<SizeEstimate>)>;

/// What a call costs, without its arguments, and how large its result is; nothing if only the general rules say something.
pub(super) fn call_estimate(
    coster: &Coster<'_>,
    function: &str,
    overload: &str,
    target: Option<&Arg>,
    args: &[Arg],
) -> Estimate {
    extension(coster, overload, target, args)
        .or_else(|| kubernetes(coster, function, overload, target, args))
        .or_else(|| language(overload, target, args))
}

fn fixed(cost: u64) -> Estimate {
    Some((CostEstimate::fixed(cost), None))
}

/// An integer that is written down.
fn int(coster: &Coster<'_>, arg: &Arg, otherwise: u64) -> u64 {
    match coster.checked.ast.kind(arg.id) {
        Kind::Literal(Literal::Int(value)) => u64::try_from(*value).unwrap_or(0),
        _ => otherwise,
    }
}

fn allocating(factor: f64, size: SizeEstimate) -> Estimate {
    let cost = size.factor(factor).add(CostEstimate::fixed(1)).add(CostEstimate::fixed(LIST_CREATE_COST));
    Some((cost, Some(size)))
}

/// Lists and sets of the extensions.
fn extension(coster: &Coster<'_>, overload: &str, target: Option<&Arg>, args: &[Arg]) -> Estimate {
    match (overload, target, args) {
        ("list_slice", Some(target), [start, end]) => {
            let size = target.size_or_unknown();
            let (start, end) = (int(coster, start, 0), int(coster, end, size.max));
            allocating(1.0, SizeEstimate::fixed(end.wrapping_sub(start)))
        }
        ("list_flatten", Some(target), []) => allocating(1.0, target.size_or_unknown()),
        ("list_flatten_int", Some(target), [depth]) => {
            allocating(int(coster, depth, u64::MAX) as f64, target.size_or_unknown())
        }
        ("lists_range", None, [count]) => allocating(1.0, SizeEstimate::fixed(int(coster, count, u64::MAX))),
        ("list_reverse", Some(target), []) => allocating(1.0, target.size_or_unknown()),
        ("list_distinct", Some(target), []) => {
            let size = target.size_or_unknown();
            allocating(2.0, size.multiply(size))
        }
        ("list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list", _, [a, b]) => {
            let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
            let cost = a.size_or_unknown().multiply(b.size_or_unknown()).factor(factor);
            Some((cost.add(CostEstimate::fixed(1)), None))
        }
        (overload, Some(target), []) if is_of_list(overload, "_sort") => sort(overload, target),
        (overload, Some(_), [keys]) if is_of_list(overload, "_sortByAssociatedKeys") => sort(overload, keys),
        _ => None,
    }
}

fn is_of_list(overload: &str, end: &str) -> bool {
    overload.starts_with("list_") && overload.ends_with(end)
}

fn sort(overload: &str, keys: &Arg) -> Estimate {
    let size = keys.size_or_unknown();
    let texts = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
    allocating(if texts { 2.0 + STRING_FACTOR } else { 2.0 }, size.multiply(size))
}

/// Reading a text once, where there is one.
fn traversal(arg: Option<&Arg>, factor: f64) -> Estimate {
    arg.map(|arg| (arg.size_or_unknown().factor(factor), None))
}

/// The same where a text of the same size comes out.
fn same_size(arg: Option<&Arg>) -> Estimate {
    arg.map(|arg| (arg.size_or_unknown().factor(STRING_FACTOR), Some(arg.size_or_unknown())))
}

fn kubernetes(coster: &Coster<'_>, function: &str, overload: &str, target: Option<&Arg>, args: &[Arg]) -> Estimate {
    match function {
        "check" => fixed(AUTHORIZER_CHECK_COST),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
        | "reason" | "error" | "errored" => fixed(1),
        "fieldSelector" | "labelSelector" => match args {
            [selector] => Some((selector_cost(selector.size_or_unknown()), None)),
            _ => None,
        },
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => target.map(|list| over_list(coster, list)),
        "url" | "jsonpatch.escapeKey" if args.len() == 1 => same_size(args.first()),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => same_size(target),
        "replace" => match (target, args) {
            (Some(target), [old, new, ..]) => Some(replace(target, old, new)),
            _ => None,
        },
        "split" => target.map(|text| {
            let size = text.size_or_unknown();
            let most = args.get(1).map_or(size.max, |limit| literal_limit(coster, limit, size.max));
            (size.factor(2.0 * STRING_FACTOR), Some(SizeEstimate { min: 0, max: most }))
        }),
        "join" => target.map(|list| join(coster, list, args.first())),
        "find" | "findAll" => match (target, args) {
            (Some(text), [pattern, ..]) => {
                let size = text.size_or_unknown();
                Some((regex(size, pattern.size_or_unknown()), Some(SizeEstimate { min: 0, max: size.max })))
            }
            _ => None,
        },
        "ip" if overload == "cidr_ip" => fixed(1),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            traversal(args.first(), STRING_FACTOR)
        }
        "ip.isCanonical" => traversal(args.first(), 2.0 * STRING_FACTOR),
        "containsIP" | "containsCIDR" => args.first().map(|other| (contains(function, overload, other), None)),
        "validate" => args
            .first()
            .map(|text| (text.size_or_unknown().factor(STRING_FACTOR).factor(MAX_FORMAT_REGEX * REGEX_FACTOR), None)),
        "includes" => target.map(|_| (CostEstimate { min: 0, max: MAX_ATTRIBUTE_VALUES }, None)),
        "_==_" => equality(coster, args),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => fixed(1),
        _ => None,
    }
}

fn literal_limit(coster: &Coster<'_>, limit: &Arg, otherwise: u64) -> u64 {
    match coster.checked.ast.kind(limit.id) {
        // A negative limit is none; upstream takes it for a very large one.
        Kind::Literal(Literal::Int(value)) => *value as u64,
        _ => otherwise,
    }
}

fn selector_cost(length: SizeEstimate) -> CostEstimate {
    let requirements = length.factor(0.5).factor((LIST_CREATE_COST + STRUCT_CREATE_COST) as f64);
    CostEstimate::fixed(LIST_CREATE_COST).add(length.factor(STRING_FACTOR)).add(requirements)
}

/// The size of the elements of a list, and their type; nothing if it is no list.
fn element(coster: &Coster<'_>, list: &Arg) -> Option<(SizeEstimate, Type)> {
    let of = match coster.type_of(list.id) {
        Type::List(of) => (**of).clone(),
        Type::Map(of) => of.0.clone(),
        other => other.parameters().first()?.clone(),
    };
    let path = list.path.as_ref().map(|path| path.iter().cloned().chain(["@items".into()]).collect::<Vec<_>>());
    let size = path.and_then(|path| coster.hints.size(&path)).unwrap_or(SizeEstimate::UNKNOWN);
    Some((size, of))
}

fn over_list(coster: &Coster<'_>, list: &Arg) -> (CostEstimate, Option<SizeEstimate>) {
    let size = list.size_or_unknown();
    let Some((of_element, of)) = element(coster, list) else { return (size.factor(STRING_FACTOR), None) };
    let mut each = CostEstimate::fixed(1);
    if matches!(of, Type::String | Type::Bytes) {
        each = each.add(of_element.factor(STRING_FACTOR));
    }
    (size.multiply(each), None)
}

/// How large a text becomes at most, and at least, when parts of it are replaced.
fn replace(target: &Arg, old: &Arg, new: &Arg) -> (CostEstimate, Option<SizeEstimate>) {
    let (size, old, new) = (target.size_or_unknown(), old.size_or_unknown(), new.size_or_unknown());
    let times = |size: u64, of: u64| (size as f64 / of as f64).ceil() as u64;
    let (mut count, mut kept) = (SizeEstimate::fixed(0), SizeEstimate::fixed(0));
    if old.min == 0 {
        count.max = size.max.saturating_add(1);
        kept.max = size.max;
    } else if new.max <= old.min {
        kept.max = size.max;
    } else {
        count.max = times(size.max, old.min);
    }
    if old.max == 0 {
        count.min = size.min.saturating_add(1);
        kept.min = size.min;
    } else if old.max <= new.min {
        kept.min = size.min;
    } else {
        count.min = times(size.min, old.max);
    }
    (size.factor(2.0 * STRING_FACTOR), Some(count.multiply(new).add(kept)))
}

fn join(coster: &Coster<'_>, list: &Arg, separator: Option<&Arg>) -> (CostEstimate, Option<SizeEstimate>) {
    let length = list.size_or_unknown();
    let mut size = element(coster, list).map_or(SizeEstimate::fixed(0), |(of_element, _)| length.multiply(of_element));
    if let Some(separator) = separator {
        let between = SizeEstimate { min: length.min.saturating_sub(1), max: length.max.saturating_sub(1) };
        size = size.add(separator.size_or_unknown().multiply(between));
    }
    (size.factor(STRING_FACTOR), Some(size))
}

fn regex(text: SizeEstimate, pattern: SizeEstimate) -> CostEstimate {
    text.add(SizeEstimate::fixed(1)).factor(STRING_FACTOR).multiply(pattern.factor(REGEX_FACTOR))
}

/// Addresses are 4 or 16 bytes, which are compared.
fn contains(function: &str, overload: &str, other: &Arg) -> CostEstimate {
    let bytes = SizeEstimate { min: 4, max: 16 };
    let mut cost = bytes.add(bytes).factor(STRING_FACTOR);
    if function == "containsCIDR" {
        cost = cost.add(bytes.factor(STRING_FACTOR)).add(CostEstimate::fixed(1));
    }
    if overload.ends_with("_string") {
        cost = cost.add(other.size_or_unknown().factor(STRING_FACTOR));
    }
    cost
}

/// What belongs to Kubernetes' libraries is compared at once.
fn equality(coster: &Coster<'_>, args: &[Arg]) -> Estimate {
    let [left, right] = args else { return None };
    let of = coster.type_of(left.id);
    if of != coster.type_of(right.id) {
        return None;
    }
    let name = match of {
        Type::Object(name) | Type::Opaque(name, _) => &**name,
        _ => return None,
    };
    match name {
        "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => fixed(1),
        name if name.starts_with("kubernetes.authorization.") => fixed(1),
        "kubernetes.NamedFormat" => Some((CostEstimate { min: 1, max: MAX_FORMAT }.factor(STRING_FACTOR), None)),
        "kubernetes.URL" => {
            let size = right.size.unwrap_or(SizeEstimate::fixed(1));
            Some((CostEstimate { min: 1, max: size.max }.factor(STRING_FACTOR), None))
        }
        _ => None,
    }
}

fn language(overload: &str, target: Option<&Arg>, args: &[Arg]) -> Estimate {
    match (overload, target, args) {
        ("string_format", Some(target), _) => traversal(Some(target), STRING_FACTOR),
        ("string_to_bytes", _, [text]) => {
            let size = text.size_or_unknown();
            Some((size.factor(STRING_FACTOR), Some(SizeEstimate { min: size.min, max: size.max.wrapping_mul(4) })))
        }
        ("bytes_to_string", _, [bytes]) => {
            let size = bytes.size_or_unknown();
            Some((size.factor(STRING_FACTOR), Some(SizeEstimate { min: size.min / 4, max: size.max })))
        }
        ("strings_quote", _, [text]) => {
            let size = text.size_or_unknown();
            let quoted = SizeEstimate { min: size.min.wrapping_add(2), max: size.max.wrapping_mul(2).wrapping_add(2) };
            Some((size.factor(STRING_FACTOR), Some(quoted)))
        }
        ("starts_with_string" | "ends_with_string", _, [part]) => traversal(Some(part), STRING_FACTOR),
        ("in_list", _, [_, list]) => traversal(Some(list), 1.0),
        ("matches_string", Some(text), [pattern]) => {
            Some((regex(text.size_or_unknown(), pattern.size_or_unknown()), None))
        }
        ("contains_string", Some(text), [part]) => {
            let cost =
                text.size_or_unknown().factor(STRING_FACTOR).multiply(part.size_or_unknown().factor(STRING_FACTOR));
            Some((cost, None))
        }
        (
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals",
            _,
            [left, right],
        ) => {
            let smaller = left.size_or_unknown().max.min(right.size_or_unknown().max);
            Some((CostEstimate { min: u64::from(smaller > 0), max: smaller }.factor(STRING_FACTOR), None))
        }
        _ => None,
    }
}
