//! What holds for any object and any order of writes.

use kedge_fields::{Comparison, Set, Type, compare, decode, encode, merge, remove, set_of};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::{Kind, bare, owners};

fn text() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(Value::from)
}

fn map() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[kl]", text(), 1..3).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Items that differ in their key.
fn items() -> impl Strategy<Value = Value> {
    let item = (prop::option::of(text()), prop::option::of(map()), prop::option::of(Just(json!("UDP"))));
    prop::collection::btree_map("[xyz]", item, 0..4).prop_shuffle_values()
}

trait ShuffledItems {
    fn prop_shuffle_values(self) -> BoxedStrategy<Value>;
}

type Item = (Option<Value>, Option<Value>, Option<Value>);

impl<S: Strategy<Value = std::collections::BTreeMap<String, Item>> + 'static> ShuffledItems for S {
    fn prop_shuffle_values(self) -> BoxedStrategy<Value> {
        let item = |(name, (value, labels, protocol)): (String, Item)| {
            let fields = [("value", value), ("labels", labels), ("protocol", protocol), ("name", Some(name.into()))];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(fields.collect())
        };
        self.prop_map(move |map| map.into_iter().map(item).collect::<Vec<_>>())
            .prop_shuffle()
            .prop_map(Value::from)
            .boxed()
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![text(), any::<bool>().prop_map(Value::from), (0..3i64).prop_map(Value::from)];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[uv]", inner, 1..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The fields of a thing.
fn thing() -> impl Strategy<Value = Value> {
    let texts =
        || prop::collection::btree_set("[pqr]", 0..3).prop_map(|set| Value::from(set.into_iter().collect::<Vec<_>>()));
    let fields = (
        prop::option::of(text()),
        prop::option::of(map()),
        prop::option::of(texts()),
        prop::option::of(texts()),
        prop::option::of(map()),
        prop::option::of(items()),
        prop::option::of(anything()),
    );
    fields.prop_map(|(text, map, set, list, color, items, any)| {
        let fields = [
            ("text", text),
            ("map", map),
            ("set", set),
            ("list", list),
            ("color", color),
            ("items", items),
            ("any", any),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(fields.collect::<Map<_, _>>())
    })
}

#[derive(Debug, Clone)]
struct Step {
    applies: bool,
    force: bool,
    manager: &'static str,
    fields: Value,
}

fn step() -> impl Strategy<Value = Step> {
    let manager = prop::sample::select(vec!["one", "two", "three"]);
    (any::<bool>(), any::<bool>(), manager, thing()).prop_map(|(applies, force, manager, fields)| Step {
        applies,
        force,
        manager,
        fields,
    })
}

/// What somebody who knows no ownership would make of it: maps are merged, lists of one value replaced, items by key.
fn naive(live: &Value, applied: &Value) -> Value {
    let mut out = live.clone();
    for (name, value) in applied.as_object().unwrap() {
        out[name] = match (name.as_str(), live.get(name)) {
            ("map", Some(was)) => {
                let mut map = was.as_object().unwrap().clone();
                map.extend(value.as_object().unwrap().clone());
                map.into()
            }
            ("set" | "items" | "any", Some(_)) => continue,
            _ => value.clone(),
        };
    }
    out
}

proptest! {
    #[test]
    fn a_set_reads_back_as_it_was_written(fields in thing()) {
        let kind = Kind::thing();
        let set = set_of(Type::of(&kind.schema), &fields);
        prop_assert_eq!(decode(&encode(&set)).unwrap(), set);
    }

    /// What is removed from an object is no longer in its set; and all of it can be removed.
    #[test]
    fn the_set_of_an_object_covers_it(fields in thing()) {
        let kind = Kind::thing();
        let ty = Type::of(&kind.schema);
        let left = remove(ty, fields.clone(), &set_of(ty, &fields));
        let set = set_of(ty, &left);
        prop_assert!(set_of(ty, &fields).intersection(&set).members().iter().all(|path| {
            // What holds others stays, empty.
            set_of(ty, &fields).members().iter().any(|other| other.len() > path.len() && other.starts_with(path))
        }), "{left}");
        let nothing = remove(ty, fields.clone(), &Set::default());
        prop_assert_eq!(nothing, fields);
    }

    #[test]
    fn sets_obey_the_laws_of_sets(a in thing(), b in thing()) {
        let kind = Kind::thing();
        let ty = Type::of(&kind.schema);
        let (a, b) = (set_of(ty, &a), set_of(ty, &b));
        let both = a.intersection(&b);
        prop_assert_eq!(&both, &b.intersection(&a));
        let either = a.clone().union(b.clone());
        prop_assert_eq!(&either, &b.clone().union(a.clone()));
        prop_assert_eq!(a.clone().difference(&b).union(both.clone()), a.clone());
        prop_assert_eq!(either.difference(&a), b.clone().difference(&a));
        prop_assert!(a.clone().difference(&b).intersection(&both).is_empty());
    }

    #[test]
    fn a_comparison_is_empty_for_the_same_and_its_sides_turn_with_the_objects(a in thing(), b in thing()) {
        let kind = Kind::thing();
        let ty = Type::of(&kind.schema);
        prop_assert!(compare(ty, &a, &a).unwrap().is_same());
        let Comparison { removed, modified, added } = compare(ty, &a, &b).unwrap();
        let back = compare(ty, &b, &a).unwrap();
        prop_assert_eq!((&removed, &modified, &added), (&back.added, &back.modified, &back.removed));
    }

    #[test]
    fn a_merge_is_what_the_naive_one_is_and_is_done_once(live in thing(), applied in thing()) {
        let kind = Kind::thing();
        let ty = Type::of(&kind.schema);
        let merged = merge(ty, &live, &applied).unwrap();
        let mut known = merged.clone();
        let mut naive = naive(&live, &applied);
        for lists in ["set", "items", "any"] {
            for object in [&mut known, &mut naive] {
                object.as_object_mut().map(|fields| fields.remove(lists));
            }
        }
        prop_assert_eq!(known.as_object().cloned().unwrap_or_default(), naive.as_object().cloned().unwrap());
        prop_assert_eq!(merge(ty, &merged, &applied).unwrap(), merged.clone());
        let named = set_of(ty, &applied);
        prop_assert_eq!(set_of(ty, &merged).intersection(&named), named, "nothing that was applied is missing");
    }

    /// Whatever was written before in whatever way: what is applied is there afterwards and owned, and applied again it changes
    /// nothing.
    #[test]
    fn an_apply_settles(steps in prop::collection::vec(step(), 1..7), last in thing()) {
        let kind = Kind::thing();
        let mut live: Option<Value> = None;
        for Step { applies, force, manager, fields } in &steps {
            live = if !applies {
                Some(kind.update(live.as_ref(), fields, manager))
            } else if *force {
                Some(kind.force(live.as_ref(), fields, manager))
            } else {
                kind.apply(live.as_ref(), fields, manager).ok().or(live)
            };
        }
        let ty = Type::of(&kind.schema);
        let new = kind.force(live.as_ref(), &last, "last");
        let wanted = set_of(ty, &last);
        prop_assert_eq!(set_of(ty, &new).intersection(&wanted), wanted.clone());
        let owned = owners(&new).into_iter().find(|(name, _)| name == "last/Apply").map(|(_, fields)| fields);
        let owned = owned.map_or_else(Set::default, |text| decode(&serde_json::from_str(&text).unwrap()).unwrap());
        prop_assert_eq!(&owned, &wanted);
        prop_assert_eq!(kind.apply(Some(&new), &last, "last").unwrap(), new.clone());
        // Nobody owns what is not there.
        let there = compare(ty, &json!({}), &bare(&new)).unwrap();
        let there = there.added.union(there.modified).union(set_of(ty, &bare(&new)));
        for (who, text) in owners(&new) {
            let owned = decode(&serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert!(owned.clone().difference(&there).is_empty(), "{} owns {}", who, text);
        }
    }
}
