//! A definition in the form in which upstream judges it: what all versions have alike stands above them, and they have none of it.
//!
//! The paths in errors are of that form: `spec.validation` where one version, or several with one schema, are written as
//! `spec.versions[0].schema`. What of that form no client of v1 can write (a schema above the versions and in them) does not occur.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schema::Schema;
use crate::value::ValueExt;

/// A `spec`.
pub(super) struct Form<'a> {
    pub spec: &'a Value,
    /// Versions are given, if perhaps none.
    pub has_versions: bool,
    pub versions: Vec<Version<'a>>,
    pub shared: Parts<'a>,
    /// Of each name the first version.
    first: BTreeMap<&'a str, usize>,
    own_subresources: bool,
    own_schemas: bool,
}

/// One of `spec.versions`.
pub(super) struct Version<'a> {
    pub value: &'a Value,
    pub own: Parts<'a>,
}

/// What stands above the versions or in them.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Parts<'a> {
    /// `CustomResourceValidation`: there may be one without a schema.
    pub validation: Option<&'a Value>,
    pub subresources: Option<&'a Value>,
    pub columns: &'a [Value],
    pub selectable: &'a [Value],
}

impl<'a> Parts<'a> {
    fn of(version: &'a Value) -> Self {
        let there = |field: &str| version.get(field).filter(|value| !value.is_null());
        Self {
            validation: there("schema"),
            subresources: there("subresources"),
            columns: version.list(&["additionalPrinterColumns"]),
            selectable: version.list(&["selectableFields"]),
        }
    }

    pub fn schema(&self) -> Option<Schema<'a>> {
        self.validation.and_then(|validation| validation.get("openAPIV3Schema")).filter(|s| !s.is_null()).map(Schema)
    }

    pub fn has_status(&self) -> bool {
        self.subresources.and_then(|all| all.get("status")).is_some_and(|status| !status.is_null())
    }
}

impl<'a> Version<'a> {
    pub fn name(&self) -> &'a str {
        self.value.text(&["name"])
    }

    pub fn is_stored(&self) -> bool {
        self.value.flag(&["storage"]) == Some(true)
    }

    pub fn is_served(&self) -> bool {
        self.value.flag(&["served"]) == Some(true)
    }
}

impl<'a> Form<'a> {
    /// Of a whole definition.
    pub fn of(definition: &'a Value) -> Self {
        let list = definition.list(&["spec", "versions"]);
        let mut versions: Vec<Version<'a>> =
            list.iter().map(|value| Version { value, own: Parts::of(value) }).collect();
        let mut shared = versions.first().map(|version| version.own).unwrap_or_default();
        let alike = |same: &dyn Fn(&Parts<'a>) -> bool| versions.iter().all(|version| same(&version.own));
        let (validation, subresources) =
            (alike(&|p| p.validation == shared.validation), alike(&|p| p.subresources == shared.subresources));
        let (columns, selectable) =
            (alike(&|p| p.columns == shared.columns), alike(&|p| p.selectable == shared.selectable));
        let none = Parts::default();
        for own in versions.iter_mut().map(|version| &mut version.own) {
            own.validation = own.validation.filter(|_| !validation);
            own.subresources = own.subresources.filter(|_| !subresources);
            own.columns = if columns { none.columns } else { own.columns };
            own.selectable = if selectable { none.selectable } else { own.selectable };
        }
        shared.validation = shared.validation.filter(|_| validation);
        shared.subresources = shared.subresources.filter(|_| subresources);
        shared.columns = if columns { shared.columns } else { none.columns };
        shared.selectable = if selectable { shared.selectable } else { none.selectable };
        let has_versions = definition.at(&["spec", "versions"]).is_some_and(Value::is_array);
        let first = versions.iter().enumerate().rev().map(|(i, version)| (version.name(), i)).collect();
        let own = |has: fn(&Parts<'a>) -> bool| versions.iter().any(|version| has(&version.own));
        let (own_subresources, own_schemas) =
            (own(|own| own.subresources.is_some()), own(|own| own.validation.is_some()));
        let spec = definition.get("spec").unwrap_or(&Value::Null);
        Self { spec, has_versions, versions, shared, first, own_subresources, own_schemas }
    }

    /// The first version's name, which the form has above the versions.
    pub fn version(&self) -> &'a str {
        self.versions.first().map(Version::name).unwrap_or_default()
    }

    pub fn preserves_unknown(&self) -> bool {
        self.spec.flag(&["preserveUnknownFields"]) == Some(true)
    }

    /// Every schema, the shared one first.
    pub fn schemas(&self) -> impl Iterator<Item = Schema<'a>> {
        let own: Vec<Schema<'a>> = self.versions.iter().filter_map(|version| version.own.schema()).collect();
        self.shared.schema().into_iter().chain(own)
    }

    /// Whether a schema within any schema is as asked.
    pub fn any(&self, is: &mut dyn FnMut(Schema<'a>) -> bool) -> bool {
        self.schemas().any(|schema| schema.any(is))
    }

    /// The subresources of a version.
    pub fn has_status(&self, version: &Version<'a>) -> bool {
        match self.own_subresources {
            true => self.version_of(version.name()).is_some_and(|found| found.own.has_status()),
            false => self.shared.has_status(),
        }
    }

    pub fn has_any_status(&self) -> bool {
        self.shared.has_status() || self.versions.iter().any(|version| version.own.has_status())
    }

    /// What a version's `CustomResourceValidation` is.
    pub fn validation(&self, name: &str) -> Option<Option<&'a Value>> {
        match self.own_schemas {
            true => self.version_of(name).map(|version| version.own.validation),
            false => Some(self.shared.validation),
        }
    }

    /// A version's selectable fields, the shared ones under no name.
    pub fn selectable(&self, name: &str) -> Option<&'a [Value]> {
        if name.is_empty() {
            return Some(self.shared.selectable);
        }
        self.version_of(name).map(|version| version.own.selectable)
    }

    /// The version of that name, the first should there be several.
    fn version_of(&self, name: &str) -> Option<&Version<'a>> {
        self.first.get(name).and_then(|i| self.versions.get(*i))
    }
}
