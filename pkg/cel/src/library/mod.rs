//! Libraries: the functions that expressions may call.

mod addresses;
mod authorizer;
mod conversions;
mod devices;
mod formats;
mod formatting;
mod jsonpatch;
mod lists;
mod lists_extension;
mod operators;
mod optional;
mod quantity;
mod regex;
mod semver;
mod sets;
mod standard;
mod strings;
mod twovar;
mod urls;

use crate::error::EvalError;
use crate::functions::Functions;
use crate::value::{List, Value};
pub(crate) use formats::regex_size;
pub(crate) use formatting::validate_format;

/// A library, in the version that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Standard,
    Optional,
    /// Of a version: 0 or 2.
    Strings(u32),
    Sets,
    ListsExtension,
    TwoVariables,
    Urls,
    Regex,
    Lists,
    Quantity,
    Ip,
    Cidr,
    Format,
    Semver,
    Authorizer,
    AuthorizerSelectors,
    JsonPatch,
    Includes,
}

/// Declares a library's functions.
pub(crate) fn declare(functions: &mut Functions, library: Builtin) {
    match library {
        Builtin::Standard => {
            operators::declare(functions);
            conversions::declare(functions);
            standard::declare(functions);
        }
        Builtin::Optional => optional::declare(functions),
        Builtin::Strings(version) => strings::declare(functions, version),
        Builtin::Sets => sets::declare(functions),
        Builtin::ListsExtension => lists_extension::declare(functions),
        Builtin::TwoVariables => twovar::declare(functions),
        Builtin::Urls => urls::declare(functions),
        Builtin::Regex => regex::declare(functions),
        Builtin::Lists => lists::declare(functions),
        Builtin::Quantity => quantity::declare(functions),
        Builtin::Ip => addresses::declare_ip(functions),
        Builtin::Cidr => addresses::declare_cidr(functions),
        Builtin::Format => formats::declare(functions),
        Builtin::Semver => semver::declare(functions),
        Builtin::Authorizer => authorizer::declare(functions),
        Builtin::AuthorizerSelectors => authorizer::declare_selectors(functions),
        Builtin::JsonPatch => jsonpatch::declare(functions),
        Builtin::Includes => devices::declare(functions),
    }
}

/// The elements of a list; the first that is an error is the error.
fn elements<'a>(list: &List<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    list.iter().collect()
}
