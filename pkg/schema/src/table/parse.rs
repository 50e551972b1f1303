//! Reads the generated facts. One line a fact, parts separated by single blanks, `-` for nothing:
//!
//! ```text
//! G group version, or O group version for one that is served when the server is told so
//! R plural singular Kind N|C verbs shortNames categories storageVersionHash storagePrefix storageGroup/storageVersion
//! S subresource group version Kind verbs
//! T definition [v=group/version/Kind;…|*] [t=atomic] [u=unions]
//! field type flags [n=protobufNumber] [g=GoType] [e=Embedded:number.…] [d=default] [l=listType] [k=mapKeys]
//!                  [s=patchStrategy] [m=mergeKey] [t=atomic]
//! ```
//!
//! The fields of a definition stand in the order in which its Go type declares them. Types are scalar names, `@definition`, `[]element` and `{}element`; flags are r(equired), o(mitempty), z (omitzero)
//! and p(ointer). Invariant: the text is part of the binary; a malformed line is a defect of the generator, is skipped,
//! and is caught by this module's tests.

use super::field::flag;
use super::{FieldDef, FieldType, GroupInfo, KindInfo, Part, ResourceInfo, SubresourceInfo, Table, TypeDef, TypeId};
use crate::SchemaRef;
use kedge_meta::Text;
use std::collections::HashMap;

/// Group, version and kind.
type Names = (&'static str, &'static str, &'static str);
type ByKind = HashMap<Names, TypeId>;

pub(super) fn parse(facts: &'static str) -> Table {
    let names = facts.lines().filter_map(|line| line.strip_prefix("T ")).map(first_word);
    let by_name: HashMap<&'static str, TypeId> =
        names.enumerate().filter_map(|(at, name)| Some((name, TypeId(u16::try_from(at).ok()?)))).collect();
    let mut table = Table {
        types: Vec::new(),
        by_name,
        by_kind: HashMap::new(),
        served: Part::default(),
        optional: Part::default(),
    };
    for line in facts.lines() {
        types(line, &mut table);
    }
    table.types.iter_mut().for_each(|def| def.fields.sort_unstable_by_key(|field| field.name));
    let mut reader = Reader { group: "", version: "", optional: false };
    for line in facts.lines() {
        reader.line(line, &mut table);
    }
    table
}

/// Finds `key` (which ends in `=`) among blank-separated attributes.
pub(super) fn attribute(attributes: &'static str, key: &str) -> Option<&'static str> {
    attributes.split(' ').find_map(|part| part.strip_prefix(key))
}

fn first_word(line: &'static str) -> &'static str {
    line.split(' ').next().unwrap_or(line)
}

fn dash(text: &'static str) -> &'static str {
    if text == "-" { "" } else { text }
}

fn words(text: &'static str) -> Vec<Text> {
    if text == "-" { Vec::new() } else { text.split(',').map(Text::of).collect() }
}

struct Reader {
    group: &'static str,
    version: &'static str,
    optional: bool,
}

fn types(line: &'static str, table: &mut Table) -> Option<()> {
    let (head, rest) = line.split_once(' ')?;
    match head {
        "#" | "G" | "O" | "R" | "S" => {}
        "T" => {
            let id = TypeId(u16::try_from(table.types.len()).ok()?);
            let (def, kinds) = type_def(rest);
            table.types.push(def);
            table.by_kind.extend(kinds.into_iter().map(|kind| (kind, id)));
        }
        name => {
            let def = table.types.last_mut()?;
            let field = field(name, rest, u8::try_from(def.fields.len()).ok()?, &table.by_name)?;
            def.fields.push(field);
        }
    }
    Some(())
}

/// Resources name types, which have been read before.
impl Reader {
    fn line(&mut self, line: &'static str, table: &mut Table) -> Option<()> {
        let (head, rest) = line.split_once(' ')?;
        match head {
            "G" | "O" => {
                self.optional = head == "O";
                self.group(rest, table)?;
            }
            "R" => {
                let resource = self.resource(rest, &table.by_kind)?;
                self.part(table).resources.push(resource);
            }
            "S" => {
                let subresource = subresource(rest, &table.by_kind)?;
                self.part(table).resources.last_mut()?.subresources.push(subresource);
            }
            _ => {}
        }
        Some(())
    }

    fn group(&mut self, rest: &'static str, table: &mut Table) -> Option<()> {
        let (group, version) = rest.split_once(' ')?;
        self.group = dash(group);
        self.version = version;
        let name = self.group;
        let groups = &mut self.part(table).groups;
        match groups.last_mut().filter(|last| last.name == name) {
            Some(last) => last.versions.push(Text::of(version)),
            None => groups.push(GroupInfo { name: Text::of(name), versions: vec![Text::of(version)] }),
        }
        Some(())
    }

    fn part<'t>(&self, table: &'t mut Table) -> &'t mut Part {
        if self.optional { &mut table.optional } else { &mut table.served }
    }

    fn resource(&self, rest: &'static str, kinds: &ByKind) -> Option<ResourceInfo> {
        let mut parts = rest.split(' ');
        let mut next = || parts.next();
        let (plural, singular, kind, scope) = (next()?, next()?, next()?, next()?);
        let (verbs, short_names, categories) = (words(next()?), words(next()?), words(next()?));
        let (hash, prefix) = (dash(next()?), next()?);
        let (storage_group, storage_version) = next()?.split_once('/')?;
        Some(ResourceInfo {
            group: Text::of(self.group),
            version: Text::of(self.version),
            plural: Text::of(plural),
            singular: Text::of(dash(singular)),
            kind: Text::of(kind),
            list_kind: super::list_kind(kind).into(),
            namespaced: scope == "N",
            verbs,
            short_names,
            categories,
            storage_version_hash: Text::of(hash),
            storage_prefix: Text::of(prefix),
            storage_group: Text::of(dash(storage_group)),
            storage_version: Text::of(storage_version),
            schema: SchemaRef::Builtin(*kinds.get(&(self.group, self.version, kind))?),
            subresources: Vec::new(),
        })
    }
}

fn subresource(rest: &'static str, kinds: &ByKind) -> Option<SubresourceInfo> {
    let mut parts = rest.split(' ');
    let (name, group, version) = (parts.next()?, dash(parts.next()?), parts.next()?);
    let (kind, verbs) = (parts.next()?, words(parts.next()?));
    let schema = kinds.get(&(group, version, kind)).copied().map(SchemaRef::Builtin);
    let kind = KindInfo { group: Text::of(group), version: Text::of(version), kind: Text::of(kind) };
    Some(SubresourceInfo { name: Text::of(name), kind, schema, verbs })
}

fn type_def(rest: &'static str) -> (TypeDef, Vec<Names>) {
    let (name, attributes) = rest.split_once(' ').unwrap_or((rest, ""));
    let kinds = attribute(attributes, "v=").filter(|kinds| *kinds != "*").unwrap_or_default();
    let kinds = kinds.split(';').filter_map(|kind| {
        let mut parts = kind.split('/');
        Some((parts.next()?, parts.next()?, parts.next()?))
    });
    let kinds: Vec<_> = kinds.collect();
    let own = |(group, version, kind): &Names| KindInfo {
        group: Text::of(group),
        version: Text::of(version),
        kind: Text::of(kind),
    };
    (TypeDef { name, fields: Vec::new(), kinds: kinds.iter().map(own).collect(), attributes }, kinds)
}

fn field(
    name: &'static str,
    rest: &'static str,
    rank: u8,
    by_name: &HashMap<&'static str, TypeId>,
) -> Option<FieldDef> {
    let (ty, rest) = rest.split_once(' ')?;
    let (letters, attributes) = rest.split_once(' ').unwrap_or((rest, ""));
    let flags = letters.bytes().fold(0, |flags, letter| {
        flags
            | match letter {
                b'r' => flag::REQUIRED,
                b'o' => flag::OMIT_EMPTY,
                b'z' => flag::OMIT_ZERO,
                b'p' => flag::POINTER,
                _ => 0,
            }
    });
    Some(FieldDef { name, ty: field_type(ty, by_name)?, flags, rank, attributes })
}

fn field_type(text: &'static str, by_name: &HashMap<&'static str, TypeId>) -> Option<FieldType> {
    if let Some(inner) = text.strip_prefix("[]") {
        return Some(FieldType::List(Box::leak(Box::new(field_type(inner, by_name)?))));
    }
    if let Some(inner) = text.strip_prefix("{}") {
        return Some(FieldType::Map(Box::leak(Box::new(field_type(inner, by_name)?))));
    }
    if let Some(name) = text.strip_prefix('@') {
        return by_name.get(name).copied().map(FieldType::Object);
    }
    Some(match text {
        "string" => FieldType::String,
        "bool" => FieldType::Bool,
        "int32" => FieldType::Int32,
        "int64" => FieldType::Int64,
        "double" => FieldType::Double,
        "bytes" => FieldType::Bytes,
        "quantity" => FieldType::Quantity,
        "time" => FieldType::Time,
        "microtime" => FieldType::MicroTime,
        "duration" => FieldType::Duration,
        "intorstring" => FieldType::IntOrString,
        "fieldsv1" => FieldType::FieldsV1,
        "raw" => FieldType::Raw,
        "json" => FieldType::Json,
        "schemaorarray" => FieldType::SchemaOrArray,
        "schemaorbool" => FieldType::SchemaOrBool,
        "schemaorstrings" => FieldType::SchemaOrStrings,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_facts_is_understood() {
        let facts = crate::table::FACTS;
        let table = parse(facts);
        let starting = |prefix: &str| facts.lines().filter(|line| line.starts_with(prefix)).count();
        let resources = || table.served.resources.iter().chain(&table.optional.resources);
        let subresources: usize = resources().map(|info| info.subresources.len()).sum();
        let fields: usize = table.types.iter().map(|def| def.fields.len()).sum();
        assert_eq!(table.types.len(), starting("T "));
        assert_eq!(resources().count(), starting("R "));
        assert_eq!(subresources, starting("S "));
        let others = ["#", "G ", "O ", "R ", "S ", "T "].iter().map(|prefix| starting(prefix)).sum::<usize>();
        assert_eq!(fields, facts.lines().count() - others);
    }
}
