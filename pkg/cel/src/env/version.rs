//! Which version of Kubernetes brought what.

use super::Base;
use crate::library::{self, Builtin};

/// A version of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

impl Version {
    /// The one that this is.
    pub const CURRENT: Self = Self::new(1, 36);

    /// A version.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

/// Where expressions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expressions {
    /// Somebody wants to store them: they may only use what a version has that may have to read them.
    New(Version),
    /// They are stored, or in a file: they may use all that there is.
    Stored,
}

impl Expressions {
    /// New ones, which the release before this one must understand.
    pub const NEW: Self = Self::New(Version::new(1, Version::CURRENT.minor - 1));
}

/// What a version adds.
#[derive(Debug, Clone, Copy)]
enum Feature {
    Library(Builtin),
    CrossTypeNumbers,
    Validators,
    /// `a.namespace` for a field whose name is a keyword.
    KeywordsAsFields,
}

struct Row {
    introduced: Version,
    removed: Option<Version>,
    feature: Feature,
}

const ALWAYS: Version = Version::new(1, 0);

const fn since(minor: u16, feature: Feature) -> Row {
    Row { introduced: Version::new(1, minor), removed: None, feature }
}

const fn always(library: Builtin) -> Row {
    Row { introduced: ALWAYS, removed: None, feature: Feature::Library(library) }
}

/// Upstream's table, in its order: overloads of one function are asked in it.
const TABLE: &[Row] = &[
    always(Builtin::Standard),
    always(Builtin::Urls),
    always(Builtin::Regex),
    always(Builtin::Lists),
    since(27, Feature::Library(Builtin::Authorizer)),
    since(28, Feature::CrossTypeNumbers),
    since(28, Feature::Library(Builtin::Optional)),
    since(28, Feature::Library(Builtin::Quantity)),
    since(29, Feature::Validators),
    Row { introduced: ALWAYS, removed: Some(Version::new(1, 29)), feature: Feature::Library(Builtin::Strings(0)) },
    since(29, Feature::Library(Builtin::Strings(2))),
    since(29, Feature::Library(Builtin::Sets)),
    since(30, Feature::Library(Builtin::Ip)),
    since(30, Feature::Library(Builtin::Cidr)),
    since(31, Feature::Library(Builtin::Format)),
    since(31, Feature::Library(Builtin::AuthorizerSelectors)),
    since(31, Feature::KeywordsAsFields),
    since(32, Feature::Library(Builtin::TwoVariables)),
    since(33, Feature::Library(Builtin::Semver)),
    since(34, Feature::Library(Builtin::ListsExtension)),
];

/// What expressions of a kind have.
pub(super) fn base(expressions: Expressions) -> Base {
    let mut base = Base::default();
    for row in TABLE {
        let there = match expressions {
            Expressions::New(version) => {
                version >= row.introduced && row.removed.is_none_or(|removed| version < removed)
            }
            Expressions::Stored => row.removed.is_none(),
        };
        if there {
            add(&mut base, row.feature);
        }
    }
    base
}

fn add(base: &mut Base, feature: Feature) {
    match feature {
        Feature::CrossTypeNumbers => base.cross_type = true,
        Feature::Validators => base.validated = true,
        Feature::KeywordsAsFields => base.keywords_as_fields = true,
        Feature::Library(library) => {
            library::declare(&mut base.functions, library);
            let macros = &mut base.syntax.macros;
            match library {
                Builtin::Standard => macros.standard = true,
                Builtin::Optional => {
                    macros.optional = true;
                    base.syntax.optional = true;
                    base.optional_type = true;
                }
                Builtin::TwoVariables => macros.two_variables = true,
                Builtin::ListsExtension => macros.sort_by = true,
                Builtin::Strings(version) => base.formats_validated = version >= 1,
                Builtin::Ip => base.addresses = true,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_can_be_read() {
        for expressions in
            [Expressions::Stored, Expressions::New(Version::new(1, 25)), Expressions::New(Version::CURRENT)]
        {
            assert_eq!(base(expressions).functions.broken, Vec::<&str>::new());
        }
    }

    #[test]
    fn new_expressions_have_what_their_version_has() {
        let has = |minor, function| base(Expressions::New(Version::new(1, minor))).functions.find(function).is_some();
        assert!(!has(29, "ip") && has(30, "ip"));
        assert!(!has(33, "slice") && has(34, "slice"));
        assert!(!has(28, "format") && has(29, "format"));
        assert!(base(Expressions::Stored).functions.find("slice").is_some());
    }
}
