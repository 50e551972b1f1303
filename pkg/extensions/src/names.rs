//! Which names of a definition are accepted: those that no other of its group has.

use kedge_meta::Text;

use crate::definition::Names;

/// What is said of names that were asked for.
pub(crate) struct Judgement {
    pub(crate) accepted: Names,
    /// Reason and message of the first kind of names that is taken, if one is.
    pub(crate) conflict: Option<(&'static str, String)>,
}

/// Judges the names that are asked for, given those that were accepted before and those that are in use in the group, these among them.
pub(crate) fn judge(requested: &Names, before: &Names, in_use: &[&Names]) -> Judgement {
    let resources = |name: &Text| {
        let short = |names: &&Names| names.short_names.iter().flatten().any(|short| short == name);
        in_use.iter().any(|names| names.plural == *name || names.singular == *name || short(names))
    };
    let kinds = |name: &Text| in_use.iter().any(|names| names.kind == *name || names.list_kind == *name);
    let mut accepted = before.clone();
    let mut conflict = None;
    let taken = |name: &Text| format!("{:?} is already in use", &**name);
    let mut single = |name: &Text, slot: &mut Text, is_taken: bool, reason: &'static str| {
        if name != slot && is_taken {
            // As upstream, the last one is told.
            conflict = Some((reason, taken(name)));
        } else {
            *slot = name.clone();
        }
    };
    single(&requested.plural, &mut accepted.plural, resources(&requested.plural), "PluralConflict");
    single(&requested.singular, &mut accepted.singular, resources(&requested.singular), "SingularConflict");
    let had = |name: &Text| before.short_names.iter().flatten().any(|short| short == name);
    let mut short: Vec<String> = Vec::new();
    for name in requested.short_names.iter().flatten().filter(|name| !had(name) && resources(name)) {
        let text = taken(name);
        if !short.contains(&text) {
            short.push(text);
        }
    }
    if short.is_empty() {
        accepted.short_names.clone_from(&requested.short_names);
    } else {
        let text = if short.len() == 1 { short.remove(0) } else { format!("[{}]", short.join(", ")) };
        conflict = Some(("ShortNamesConflict", text));
    }
    let mut kind = |name: &Text, slot: &mut Text, reason: &'static str| {
        if name != slot && kinds(name) {
            conflict = Some((reason, taken(name)));
        } else {
            *slot = name.clone();
        }
    };
    kind(&requested.kind, &mut accepted.kind, "KindConflict");
    kind(&requested.list_kind, &mut accepted.list_kind, "ListKindConflict");
    accepted.categories.clone_from(&requested.categories);
    Judgement { accepted, conflict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plural: &'static str, kind: &'static str, short: &[&'static str]) -> Names {
        Names {
            plural: Text::of(plural),
            singular: plural.trim_end_matches('s').to_owned().into(),
            short_names: (!short.is_empty()).then(|| short.iter().map(|name| Text::of(name)).collect()),
            kind: Text::of(kind),
            list_kind: format!("{kind}List").into(),
            categories: None,
        }
    }

    #[test]
    fn what_nobody_has_is_accepted() {
        let (wanted, other) = (names("things", "Thing", &["th"]), names("others", "Other", &["ot"]));
        let judgement = judge(&wanted, &Names::default(), &[&other]);
        assert!(judgement.conflict.is_none());
        assert_eq!(judgement.accepted, wanted);
        // Its own names are no conflict.
        assert!(judge(&wanted, &wanted, &[&other, &wanted]).conflict.is_none());
    }

    #[test]
    fn what_another_has_is_not() {
        let other = names("others", "Other", &["ot"]);
        for (wanted, reason, message) in [
            (names("ot", "Thing", &[]), "SingularConflict", r#""ot" is already in use"#),
            (
                names("things", "Thing", &["ot", "others"]),
                "ShortNamesConflict",
                r#"["ot" is already in use, "others" is already in use]"#,
            ),
            (names("things", "Other", &[]), "ListKindConflict", r#""OtherList" is already in use"#),
            (names("things", "OtherList", &[]), "KindConflict", r#""OtherList" is already in use"#),
        ] {
            let judgement = judge(&wanted, &Names::default(), &[&other]);
            assert_eq!(judgement.conflict, Some((reason, message.to_owned())));
        }
        let before = names("things", "Thing", &["th"]);
        let judgement = judge(&names("things", "Thing", &["ot"]), &before, &[&other, &before]);
        assert_eq!(judgement.accepted.short_names, before.short_names, "what was accepted stays");
    }
}
