//! What columns are about, in words.
//!
//! Most of them are the descriptions of fields, which the schema has. They are found when somebody asks for a table for the first
//! time, and then kept: about 40 KB.

use std::collections::HashMap;
use std::sync::LazyLock;

use kedge_meta::Text;
use kedge_schema::openapi;

const WORDS: &str = include_str!("words.txt");
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// What names of definitions begin with, where they are not written in full.
const API: &str = "io.k8s.api.";

static ALL: LazyLock<Words> = LazyLock::new(Words::load);

#[derive(Default)]
struct Words {
    name: Text,
    created: Text,
    /// By resource with its group, and column.
    columns: HashMap<(&'static str, &'static str), Text>,
}

/// Where words come from.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Source {
    Text(&'static str),
    Field(String, &'static str),
}

impl Words {
    fn load() -> Self {
        let meta = |field| Source::Field(META.to_owned(), field);
        let lines = lines();
        let mut wanted: Vec<Source> = lines.iter().map(|(_, source)| source.clone()).collect();
        wanted.extend([meta("name"), meta("creationTimestamp")]);
        let fields = wanted.iter().filter_map(|source| match source {
            Source::Field(definition, field) => Some((definition.as_str(), *field)),
            Source::Text(_) => None,
        });
        let fields: Vec<_> = fields.collect();
        let found: HashMap<_, Text> =
            fields.iter().copied().zip(openapi::descriptions(&fields).into_iter().map(Text::from)).collect();
        let text = |source: &Source| match source {
            Source::Text(text) if text.contains("\\n") => text.replace("\\n", "\n").into(),
            Source::Text(text) => Text::of(text),
            Source::Field(definition, field) => found.get(&(definition.as_str(), *field)).cloned().unwrap_or_default(),
        };
        Self {
            name: text(&meta("name")),
            created: text(&meta("creationTimestamp")),
            columns: lines.iter().map(|(column, source)| (*column, text(source))).collect(),
        }
    }
}

/// The lines of the file: resource and column, and where the words come from.
fn lines() -> Vec<((&'static str, &'static str), Source)> {
    let mut resource = "";
    let mut found = Vec::new();
    for line in WORDS.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("@ ") {
            resource = name;
        } else if let Some((column, text)) = line.split_once(" : ") {
            found.push(((resource, column), Source::Text(text)));
        } else if let Some((column, (definition, field))) =
            line.split_once(" = ").and_then(|(column, rest)| Some((column, rest.split_once(' ')?)))
        {
            let full = definition.starts_with("io.");
            let definition = if full { definition.to_owned() } else { format!("{API}{definition}") };
            found.push(((resource, column), Source::Field(definition, field)));
        }
    }
    found
}

/// What the column that is an object's name is about.
pub(super) fn name() -> Text {
    ALL.name.clone()
}

/// What the column that is an object's age is about.
pub(super) fn created() -> Text {
    ALL.created.clone()
}

/// What a column of a built-in kind is about; nothing if its name says all.
pub(super) fn of(resource: &str, column: &str) -> Text {
    match (ALL.columns.get(&(resource, column)), column) {
        (Some(words), _) => words.clone(),
        (None, "Name") => name(),
        (None, "Age" | "Created At") => created(),
        (None, _) => Text::default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Not the handler of a runtime class: upstream looks for its words in the wrong place.
    const WITHOUT: [&str; 3] = ["runtimeclasses.node.k8s.io", "metrics.k8s.io", "storagemigration.k8s.io"];

    #[test]
    fn every_column_of_a_built_in_kind_has_words() {
        let mut used = Vec::new();
        let kinds = kedge_schema::resources().iter().map(|info| (&*info.group, &*info.plural));
        for (group, plural) in kinds.chain([("autoscaling", "scales")]) {
            let resource = super::super::resource(group, plural);
            for column in super::super::printer(group, plural).columns {
                let known = ALL.columns.keys().find(|known| known.0 == resource && known.1 == &*column.name);
                used.extend(known.copied());
                let excused = WITHOUT.iter().any(|kind| resource.ends_with(kind));
                assert!(excused || !of(&resource, &column.name).is_empty(), "{resource} {}", column.name);
            }
        }
        let unused: Vec<_> = ALL.columns.keys().filter(|known| !used.contains(known)).collect();
        assert!(unused.is_empty(), "words for no column: {unused:?}");
    }

    #[test]
    fn words_are_those_of_fields() {
        assert!(name().starts_with("Name must be unique"), "{}", name());
        assert!(created().starts_with("CreationTimestamp is"), "{}", created());
        assert!(of("pods", "Node").starts_with("NodeName indicates"), "{}", of("pods", "Node"));
        assert!(of("certificatesigningrequests.certificates.k8s.io", "SignerName").contains(":\n 1. "));
    }
}
