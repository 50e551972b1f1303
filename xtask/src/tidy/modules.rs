//! Layers within a crate, where a crate states them.
//!
//! The doc of a `lib.rs` or a `mod.rs` may have a heading `# Layers` with a numbered list, whose lines begin with the names of modules in
//! backquotes: each knows those on the lines below its own. All children are in the list, and none imports beside itself or upwards. Tests may.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Checks all crates; `files` are their sources with their texts.
pub fn check(files: &[(PathBuf, String)], problems: &mut Vec<String>) {
    for (file, text) in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !matches!(name, "lib.rs" | "mod.rs") {
            continue;
        }
        let layers = stated(text);
        if layers.is_empty() {
            continue;
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        let base = module_of(file);
        for child in children(text).filter(|child| !layers.contains_key(child.as_str())) {
            problems.push(format!("{}: `{child}` is in no layer", file.display()));
        }
        for (inner, text) in files.iter().filter(|(inner, _)| inner.starts_with(folder) && inner != file) {
            let own = module_of(inner);
            let Some(child) = own.get(base.len()) else { continue };
            let Some(layer) = layers.get(child.as_str()) else { continue };
            for (line, path) in imports(text, &own) {
                let Some(other) = path.strip_prefix(base.as_slice()).and_then(|rest| rest.first()) else { continue };
                if other != child && layers.get(other.as_str()).is_some_and(|it| it <= layer) {
                    let place = format!("{}:{line}", inner.display());
                    problems.push(format!("{place}: `{child}` may not know `{other}`, which is beside or above it"));
                }
            }
        }
    }
}

/// The line of the list that a module is on.
fn stated(text: &str) -> BTreeMap<String, usize> {
    let docs = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let list = docs.skip_while(|line| *line != "# Layers").skip(1).take_while(|line| !line.starts_with('#'));
    let numbered = list.filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let names = |line: &str| -> Vec<String> {
        let head = line.split_once(": ").map_or(line, |(head, _)| head);
        head.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    numbered.enumerate().flat_map(|(at, line)| names(line).into_iter().map(move |name| (name, at))).collect()
}

/// The modules that a file declares, but for tests.
fn children(text: &str) -> impl Iterator<Item = String> + '_ {
    let declared = text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    declared.filter(|name| name != "tests")
}

/// Where a file stands in its crate: `["verbs", "get"]`.
fn module_of(file: &Path) -> Vec<String> {
    let parts = file.iter().map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned());
    let below = parts.skip_while(|part| part != "src").skip(1);
    below.filter(|part| !matches!(part.as_str(), "lib" | "mod" | "main")).collect()
}

/// What a file refers to by `crate::` and `super::` before its tests, from the root of the crate, with the number of the line.
fn imports(text: &str, own: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    // A path may go on over several lines, in braces.
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = &code[..at];
        let line = before.lines().next_back().unwrap_or_default().trim_start();
        let in_name = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if in_name || before.is_empty() || (line.starts_with("//") && !before.ends_with('\n')) {
            continue;
        }
        let mut rest = &code[at..];
        let mut path = own.to_vec();
        match rest.strip_prefix("crate::") {
            Some(after) => {
                path.clear();
                rest = after;
            }
            None => {
                while let Some(after) = rest.strip_prefix("super::") {
                    path.pop();
                    rest = after;
                }
            }
        }
        let number = before.matches('\n').count() + 1;
        expand(rest, path, &mut |path| found.push((number, path)));
    }
    found
}

/// Follows a path through the braces of a `use`. Returns what comes behind it.
fn expand<'a>(text: &'a str, mut path: Vec<String>, found: &mut dyn FnMut(Vec<String>)) -> &'a str {
    let mut rest = text;
    loop {
        if let Some(mut inner) = rest.strip_prefix('{') {
            loop {
                inner = inner.trim_start_matches([',', ' ', '\n', '\t']);
                if let Some(after) = inner.strip_prefix('}') {
                    return after;
                }
                let after = expand(inner, path.clone(), found);
                if after.len() == inner.len() {
                    return after;
                }
                inner = after;
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            // `*`: everything of the module.
            found(path);
            return rest.strip_prefix('*').unwrap_or(rest);
        }
        path.push(rest[..end].to_owned());
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) => rest = after,
            None => {
                found(path);
                return match rest.strip_prefix(" as ") {
                    Some(named) => named.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
                    None => rest,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        let mut found = Vec::new();
        check(&files, &mut found);
        found
    }

    const LIB: &str = "//! A crate.\n//!\n//! # Layers\n//!\n//! Words on `nothing`.\n//!\n//! 1. `top`: what `else` says\n//! 2. `a`, `b`\n//! 3. `low`\n\nmod a;\nmod b;\npub mod low;\nmod top;\n";

    #[test]
    fn imports_lead_down() {
        let fine = [
            ("p/src/lib.rs", LIB),
            ("p/src/top.rs", "use crate::{a, b as other,\n    low::{X, y::*}};\nfn f() { crate::low::g() }\n"),
            ("p/src/a/mod.rs", "use super::low;\n// crate::top is above\n#[cfg(test)]\nuse crate::top;\n"),
            ("p/src/a/x.rs", "use super::y;\nuse super::super::low::z;\n"),
            ("p/src/low.rs", "use other_crate::top;\nuse mycrate::top;\n"),
        ];
        assert_eq!(problems(&fine), [""; 0]);
    }

    #[test]
    fn imports_beside_and_upwards_are_found() {
        let wrong = [
            ("p/src/lib.rs", LIB),
            ("p/src/a/mod.rs", "use crate::{low,\n    b::{c, d}};\n"),
            ("p/src/a/x.rs", "use super::super::top;\n"),
            ("p/src/low.rs", "\nfn f() { crate::top::g(super::a::h()) }\n"),
        ];
        let found = problems(&wrong);
        let pairs = [
            ("p/src/a/mod.rs:1", "`b`"),
            ("p/src/a/x.rs:1", "`top`"),
            ("p/src/low.rs:2", "`top`"),
            ("p/src/low.rs:2", "`a`"),
        ];
        for (place, other) in pairs {
            assert!(found.iter().any(|p| p.starts_with(place) && p.contains(&format!("know {other}"))), "{found:?}");
        }
        assert_eq!(found.len(), 5, "both names of a group in braces count: {found:?}");
    }

    #[test]
    fn every_module_has_a_layer() {
        let lib = format!("{LIB}mod stray;\n");
        assert_eq!(problems(&[("p/src/lib.rs", &lib)]), ["p/src/lib.rs: `stray` is in no layer"]);
    }
}
