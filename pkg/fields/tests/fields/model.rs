//! Ownership against models that know nothing of trees: sets of texts, and fields that are each one value.

use std::collections::{BTreeMap, BTreeSet};

use kedge_fields::{Element, Set, decode, encode, encode_text};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Kind, bare, owners};

// === sets ===

fn step() -> impl Strategy<Value = Element> {
    let scalar = || {
        prop_oneof![
            "[ab<&\"]{0,2}".prop_map(Value::from),
            (-2..3_i64).prop_map(Value::from),
            Just(json!(0.5)),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null)
        ]
    };
    let key = prop::collection::btree_map("[kl]", scalar(), 1..3)
        .prop_map(|fields| Element::Key(fields.into_iter().map(|(name, value)| (name.into(), value)).collect()));
    prop_oneof![
        3 => "[a-c.:]{1,2}".prop_map(|name| Element::field(&name)),
        1 => key,
        1 => scalar().prop_map(Element::Item),
        1 => (0..4_i64).prop_map(Element::Index),
    ]
}

type Paths = Vec<Vec<Element>>;

fn paths() -> impl Strategy<Value = Paths> {
    prop::collection::vec(prop::collection::vec(step(), 1..4), 0..8)
}

/// Each path as one text, whose steps end in line breaks.
fn texts(paths: &Paths) -> BTreeSet<String> {
    paths.iter().map(|path| path.iter().map(|step| step.encode() + "\n").collect()).collect()
}

proptest! {
    #[test]
    fn sets_are_sets_of_paths(a in paths(), b in paths()) {
        let (one, other): (Set, Set) = (a.clone().into_iter().collect(), b.clone().into_iter().collect());
        let (a, b) = (texts(&a), texts(&b));
        prop_assert_eq!(&texts(&one.members()), &a);
        prop_assert_eq!(texts(&one.clone().union(other.clone()).members()), &a | &b);
        prop_assert_eq!(texts(&one.intersection(&other).members()), &a & &b);
        prop_assert_eq!(texts(&one.clone().difference(&other).members()), &a - &b);
        let left: BTreeSet<String> = a.iter().filter(|path| !b.iter().any(|above| path.starts_with(above))).cloned().collect();
        prop_assert_eq!(texts(&one.clone().recursive_difference(&other).members()), left);
        prop_assert!(one.members().iter().all(|path| one.has(path)));
    }

    #[test]
    fn any_set_is_read_as_it_was_written(paths in paths()) {
        let set: Set = paths.into_iter().collect();
        prop_assert_eq!(&decode(&encode(&set)).unwrap(), &set);
        prop_assert_eq!(decode(&serde_json::from_str(&encode_text(&set)).unwrap()).unwrap(), set);
    }
}

// === writes ===

/// Fields of an object: texts, none of which has others below it.
type Fields = BTreeMap<String, String>;

/// Who owns what: managers by name, and whether they apply.
type Owners = BTreeMap<(String, bool), BTreeSet<String>>;

#[derive(Debug, Clone)]
enum Write {
    Update(String, Fields),
    /// With force or without.
    Apply(String, Fields, bool),
}

fn write() -> impl Strategy<Value = Write> {
    let fields = || prop::collection::btree_map("[a-d]", "[12]", 0..4);
    let manager = || "one|two|three";
    prop_oneof![
        (manager(), fields()).prop_map(|(manager, fields)| Write::Update(manager, fields)),
        (manager(), fields(), any::<bool>()).prop_map(|(manager, fields, force)| Write::Apply(manager, fields, force)),
    ]
}

/// The rules of ownership as upstream's documentation has them.
#[derive(Default, Debug)]
struct Model {
    exists: bool,
    fields: Fields,
    owners: Owners,
}

/// Fields that differ: added or changed, and removed.
fn difference(old: &Fields, new: &Fields) -> (BTreeSet<String>, BTreeSet<String>) {
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(name, _)| name.clone());
    (changed.collect(), old.keys().filter(|name| !new.contains_key(*name)).cloned().collect())
}

impl Model {
    /// Takes fields from all but one.
    fn take(&mut self, names: &BTreeSet<String>, but: Option<&(String, bool)>) {
        for (_, owned) in self.owners.iter_mut().filter(|(who, _)| Some(*who) != but) {
            owned.retain(|name| !names.contains(name));
        }
    }

    fn update(&mut self, manager: &str, new: &Fields) {
        let (changed, removed) = difference(&self.fields, new);
        // What nobody tracks is not tracked from somewhere in the middle on.
        if !self.exists || !self.owners.is_empty() {
            self.take(&(&changed | &removed), None);
            self.owners.entry((manager.to_owned(), false)).or_default().extend(changed);
        }
        self.fields.clone_from(new);
        self.settle();
    }

    /// Whether it is done.
    fn apply(&mut self, manager: &str, applied: &Fields, force: bool) -> bool {
        let own = (manager.to_owned(), true);
        let mut owners = self.owners.clone();
        if self.exists && owners.is_empty() && !self.fields.is_empty() {
            let all = self.fields.keys().cloned().collect();
            owners.insert(("before-first-apply".to_owned(), false), all);
        }
        let mut new = self.fields.clone();
        new.extend(applied.clone());
        // What it named before and names no more goes, unless somebody else owns it.
        for name in owners.get(&own).into_iter().flatten().filter(|name| !applied.contains_key(*name)) {
            if !owners.iter().any(|(who, owned)| *who != own && owned.contains(name)) {
                new.remove(name);
            }
        }
        let (changed, removed) = difference(&self.fields, &new);
        let conflicts = owners.iter().any(|(who, owned)| *who != own && !owned.is_disjoint(&changed));
        if conflicts && !force {
            return false;
        }
        self.owners = owners;
        self.take(&(&changed | &removed), Some(&own));
        self.owners.insert(own, applied.keys().cloned().collect());
        self.fields = new;
        self.settle();
        true
    }

    fn settle(&mut self) {
        self.exists = true;
        self.owners.retain(|_, owned| !owned.is_empty());
    }
}

fn flat() -> Kind {
    let text = json!({"type": "string"});
    Kind::of_schema(&json!({"type": "object", "properties": {"a": text, "b": text, "c": text, "d": text}}))
}

fn json_of(fields: &Fields) -> Value {
    fields.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
}

/// What an object holds and who owns it, as the model has it.
fn seen(object: &Value) -> (Fields, Owners) {
    let own = bare(object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let fields = own.as_object().unwrap().iter().filter(|(name, _)| name.len() == 1).filter_map(text).collect();
    let owner = |(who, set): (String, String)| {
        let (name, operation) = who.split_once('/').unwrap();
        let set = decode(&serde_json::from_str(&set).unwrap()).unwrap();
        let names = set.members().iter().map(|path| path[0].encode().trim_start_matches("f:").to_owned()).collect();
        ((name.to_owned(), operation == "Apply"), names)
    };
    (fields, owners(object).into_iter().map(owner).collect())
}

proptest! {
    #[test]
    fn owners_are_those_of_the_model(writes in prop::collection::vec(write(), 1..9)) {
        let kind = flat();
        let (mut live, mut model): (Option<Value>, Model) = (None, Model::default());
        for write in &writes {
            match write {
                Write::Update(manager, fields) => {
                    live = Some(kind.update(live.as_ref(), &json_of(fields), manager));
                    model.update(manager, fields);
                }
                Write::Apply(manager, fields, force) => {
                    let applied = json_of(fields);
                    let new = match force {
                        true => Ok(kind.force(live.as_ref(), &applied, manager)),
                        false => kind.apply(live.as_ref(), &applied, manager),
                    };
                    prop_assert_eq!(new.is_ok(), model.apply(manager, fields, *force), "{:?}", write);
                    live = new.ok().or(live);
                }
            }
            if let Some(live) = &live {
                prop_assert_eq!(seen(live), (model.fields.clone(), model.owners.clone()), "after {:?}", write);
            }
        }
    }

    /// Who applies nothing any more gives back what it owned: what nobody else owns goes, the rest stays as it was.
    #[test]
    fn what_was_applied_can_be_given_back(before in prop::collection::btree_map("[a-d]", "[12]", 1..4), applied in prop::collection::btree_map("[a-d]", "[12]", 0..4)) {
        let kind = flat();
        let live = kind.update(None, &json_of(&before), "other");
        let with = kind.force(Some(&live), &json_of(&applied), "one");
        let without = kind.apply(Some(&with), &json!({}), "one").unwrap();
        let stays: Fields = before.iter().filter(|(name, value)| applied.get(*name).is_none_or(|new| new == *value))
            .map(|(name, value)| (name.clone(), value.clone())).collect();
        let (fields, owners) = seen(&without);
        prop_assert_eq!(&fields, &stays);
        prop_assert!(owners.keys().all(|(who, _)| who == "other"));
        prop_assert_eq!(owners.into_values().flatten().collect::<BTreeSet<_>>(), stays.into_keys().collect());
    }
}
