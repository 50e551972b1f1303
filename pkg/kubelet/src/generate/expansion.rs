//! `$(NAME)` in commands, arguments, variables and sub-paths.

/// Replaces `$(NAME)` by what `value` gives, and leaves unknown references as they are; `$$` is a plain `$`.
///
/// The second part of the answer tells whether a reference was unknown.
pub(crate) fn expand(text: &str, value: &dyn Fn(&str) -> Option<String>) -> (String, bool) {
    let mut out = String::with_capacity(text.len());
    let mut unknown = false;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => {
                    unknown = true;
                    out.push_str(&format!("$({name})"));
                }
            }
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    (out, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_escapes_and_leftovers() {
        let value = |name: &str| (name == "A").then(|| "1".to_string());
        let of = |text: &str| expand(text, &value).0;
        assert_eq!(of("x$(A)y"), "x1y");
        assert_eq!(of("$$(A)"), "$(A)");
        assert_eq!(of("$$$(A)"), "$1");
        assert_eq!(of("$(B)$(A"), "$(B)$(A");
        assert_eq!(of("$A$"), "$A$");
        assert!(expand("$(B)", &value).1);
    }
}
