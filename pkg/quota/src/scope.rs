//! Scopes: which objects a quota is about.

/// One of the things that must hold of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement<'a> {
    pub scope: &'a str,
    /// `Exists`, `DoesNotExist`, `In` or `NotIn`.
    pub operator: &'a str,
    pub values: Vec<&'a str>,
}

impl<'a> Requirement<'a> {
    /// A scope that is just named.
    pub fn exists(scope: &'a str) -> Self {
        Self { scope, operator: "Exists", values: Vec::new() }
    }
}

/// Whether one of the classes that an object names is selected; empty ones are none.
pub(crate) fn selected(requirement: &Requirement<'_>, classes: &[&str]) -> bool {
    let named = || classes.iter().filter(|class| !class.is_empty());
    match requirement.operator {
        "Exists" => named().next().is_some(),
        "DoesNotExist" => named().next().is_none(),
        "In" => named().any(|class| requirement.values.contains(class)),
        "NotIn" => named().next().is_none() || named().any(|class| !requirement.values.contains(class)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_selected_as_labels_are() {
        let is = |operator, values: &[&'static str], classes: &[&str]| {
            selected(&Requirement { scope: "PriorityClass", operator, values: values.to_vec() }, classes)
        };
        assert!(is("In", &["a"], &["a"]) && !is("In", &["a"], &["b"]) && !is("In", &["a"], &[""]));
        assert!(!is("NotIn", &["a"], &["a"]) && is("NotIn", &["a"], &["b"]) && is("NotIn", &["a"], &[""]));
        assert!(is("NotIn", &["a"], &["a", "b"]), "one of several is enough");
        assert!(is("Exists", &[], &["", "b"]) && !is("Exists", &[], &[""]));
        assert!(is("DoesNotExist", &[], &[]) && !is("DoesNotExist", &[], &["a"]));
        assert!(!is("Like", &["a"], &["a"]));
    }
}
