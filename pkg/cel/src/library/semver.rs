//! Semantic versions.

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Evaluated, Opaque, PreRelease, Semver, Value, quote};

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("string_to_semver", "semver(string) -> kubernetes.Semver", TO_SEMVER);
    functions.declare("string_bool_to_semver", "semver(string, bool) -> kubernetes.Semver", TO_SEMVER);
    functions.declare("is_semver_string", "isSemver(string) -> bool", IS_SEMVER);
    functions.declare("is_semver_string_bool", "isSemver(string, bool) -> bool", IS_SEMVER);
    functions.declare(
        "semver_is_greater_than",
        "kubernetes.Semver.isGreaterThan(kubernetes.Semver) -> bool",
        |_, args| compare(args).map(|order| Value::Bool(order == Ordering::Greater)),
    );
    functions.declare("semver_is_less_than", "kubernetes.Semver.isLessThan(kubernetes.Semver) -> bool", |_, args| {
        compare(args).map(|order| Value::Bool(order == Ordering::Less))
    });
    functions.declare("semver_compare_to", "kubernetes.Semver.compareTo(kubernetes.Semver) -> int", |_, args| {
        compare(args).map(|order| Value::Int(order as i64))
    });
    functions.declare("semver_major", "kubernetes.Semver.major() -> int", |_, args| part(args, |it| it.major));
    functions.declare("semver_minor", "kubernetes.Semver.minor() -> int", |_, args| part(args, |it| it.minor));
    functions.declare("semver_patch", "kubernetes.Semver.patch() -> int", |_, args| part(args, |it| it.patch));
}

const TO_SEMVER: Implementation = |_, args| match read(args)? {
    Ok(version) => Ok(Value::opaque(Opaque::Semver(version))),
    Err(why) => Err(EvalError::new(why)),
};

const IS_SEMVER: Implementation = |_, args| Ok(Value::Bool(read(args)?.is_ok()));

fn read(args: &[Value<'_>]) -> Result<Result<Semver, String>, EvalError> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(normalize(text).and_then(|text| parse(&text))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn version<'v>(args: &'v [Value<'_>], n: usize) -> Result<&'v Semver, EvalError> {
    match args.get(n) {
        Some(Value::Opaque(it)) => match &**it {
            Opaque::Semver(version) => Ok(version),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(version(args, 0)?.compare(version(args, 1)?))
}

fn part<'a>(args: &[Value<'a>], part: fn(&Semver) -> u64) -> Evaluated<'a> {
    // Upstream's numbers wrap as well.
    Ok(Value::Int(part(version(args, 0)?) as i64))
}

/// A version with what is often left out: without `v`, without leading zeros, with all three numbers.
fn normalize(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
    for part in &mut parts {
        if part.len() > 1 {
            let trimmed = part.trim_start_matches('0');
            *part = if trimmed.starts_with(|c: char| c.is_ascii_digit()) {
                trimmed.to_owned()
            } else {
                format!("0{trimmed}")
            };
        }
    }
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

fn parse(text: &str) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let [major, minor, rest] = parts.as_slice() else { return Err("No Major.Minor.Patch elements found".to_owned()) };
    let major = number(major, "major")?;
    let minor = number(minor, "minor")?;
    let (rest, build) = rest.split_once('+').map_or((*rest, None), |(rest, build)| (rest, Some(build)));
    let (patch, pre) = rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
    let patch = number(patch, "patch")?;
    let pre = pre.into_iter().flat_map(|it| it.split('.')).map(pre_release).collect::<Result<_, _>>()?;
    let build = build.into_iter().flat_map(|it| it.split('.')).map(build_part).collect::<Result<_, _>>()?;
    Ok(Semver { major, minor, patch, pre, build })
}

fn number(text: &str, name: &str) -> Result<u64, String> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {name} number {}", quote(text)));
    }
    if text.len() > 1 && text.starts_with('0') {
        let name = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        return Err(format!("{name} number must not contain leading zeroes {}", quote(text)));
    }
    let why = if text.is_empty() { "invalid syntax" } else { "value out of range" };
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {}: {why}", quote(text)))
}

fn is_identifier(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn pre_release(text: &str) -> Result<PreRelease, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {}", quote(text)));
        }
        let out_of_range = |_| format!("strconv.ParseUint: parsing {}: value out of range", quote(text));
        return text.parse().map(PreRelease::Number).map_err(out_of_range);
    }
    if is_identifier(text) {
        Ok(PreRelease::Text(text.into()))
    } else {
        Err(format!("Invalid character(s) found in prerelease {}", quote(text)))
    }
}

fn build_part(text: &str) -> Result<Box<str>, String> {
    if text.is_empty() {
        return Err("Build meta data is empty".to_owned());
    }
    if is_identifier(text) {
        Ok(text.into())
    } else {
        Err(format!("Invalid character(s) found in build meta data {}", quote(text)))
    }
}
