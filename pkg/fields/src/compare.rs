//! What differs between two states of an object.

use serde_json::Value;

use crate::element::{Element, same};
use crate::items::{self, as_list, as_map};
use crate::mismatch::Mismatches;
use crate::set::Set;
use crate::types::{Form, Items, Type};

/// The fields that differ; none is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only in the older state.
    pub removed: Set,
    /// In both, and different.
    pub modified: Set,
    /// Only in the newer state.
    pub added: Set,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// The same for each of the sets.
    pub(crate) fn map(self, change: impl Fn(Set) -> Set) -> Self {
        Self { removed: change(self.removed), modified: change(self.modified), added: change(self.added) }
    }
}

/// Compares two objects of a type.
///
/// # Errors
/// Items of lists that cannot be told from others.
pub fn compare(ty: Type<'_>, old: &Value, new: &Value) -> Result<Comparison, Mismatches> {
    let mut walk = Walk { found: Mismatches::default() };
    let diff = walk.node(ty, Some(old), Some(new));
    walk.found.check()?;
    Ok(diff.below)
}

struct Walk {
    found: Mismatches,
}

/// What became of a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Removed,
    Modified,
    Added,
}

struct Diff {
    own: Fate,
    below: Comparison,
}

impl Diff {
    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let own = match (old, new) {
            (None, _) => Fate::Added,
            (_, None) => Fate::Removed,
            (Some(old), Some(new)) if same(old, new) => Fate::Kept,
            _ => Fate::Modified,
        };
        Self { own, below: Comparison::default() }
    }
}

fn attach(to: &mut Comparison, element: Element, diff: Diff) {
    let below = diff.below;
    let sets = [
        (&mut to.removed, Fate::Removed, below.removed),
        (&mut to.modified, Fate::Modified, below.modified),
        (&mut to.added, Fate::Added, below.added),
    ];
    let mut places = sets.into_iter().filter(|(_, fate, below)| diff.own == *fate || !below.is_empty()).peekable();
    let mut element = Some(element);
    while let Some((set, fate, below)) = places.next() {
        let element = if places.peek().is_none() { element.take() } else { element.clone() };
        if let Some(element) = element {
            set.push(element, diff.own == fate, below);
        }
    }
}

impl Walk {
    fn node(&mut self, ty: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> Diff {
        let (was, is) = (ty.forms().of(old), ty.forms().of(new));
        let (diff, is_leaf) = if new.is_none() {
            self.form(ty, was.form(), old, new)
        } else if old.is_none() || was == is {
            self.form(ty, is.form(), old, new)
        } else {
            // It took another form: what was below goes, what is below comes.
            let (before, _) = self.form(ty, was.form(), old, new);
            let (after, is_leaf) = self.form(ty, is.form(), old, new);
            let own = if after.own == Fate::Kept { before.own } else { after.own };
            let below = Comparison {
                removed: before.below.removed.union(after.below.removed),
                modified: before.below.modified.union(after.below.modified),
                added: before.below.added.union(after.below.added),
            };
            (Diff { own, below }, is_leaf)
        };
        let own = match (old, new) {
            _ if is_leaf => diff.own,
            (None, _) => Fate::Added,
            (_, None) => Fate::Removed,
            _ => diff.own,
        };
        Diff { own, ..diff }
    }

    /// What differs, and whether the place is a leaf.
    fn form(&mut self, ty: Type<'_>, form: Form, old: Option<&Value>, new: Option<&Value>) -> (Diff, bool) {
        let leaf = || (Diff::leaf(old, new), true);
        match form {
            Form::Scalar(_) => leaf(),
            Form::Map => {
                let (was, is) = (as_map(old), as_map(new));
                let empty = was.is_none_or(|map| map.is_empty()) && is.is_none_or(|map| map.is_empty());
                if empty || ty.is_atomic_map() {
                    return leaf();
                }
                let below = self.fields(ty, was, is);
                (Diff { own: Fate::Kept, below }, false)
            }
            Form::List => {
                let (was, is) = (as_list(old), as_list(new));
                let empty = was.is_none_or(<[Value]>::is_empty) && is.is_none_or(<[Value]>::is_empty);
                if empty || ty.items() == Items::Atomic {
                    return leaf();
                }
                let below = match was == is {
                    true => Comparison::default(),
                    false => self.list(ty, was, is),
                };
                (Diff { own: Fate::Kept, below }, false)
            }
        }
    }

    fn fields(
        &mut self,
        ty: Type<'_>,
        old: Option<&serde_json::Map<String, Value>>,
        new: Option<&serde_json::Map<String, Value>>,
    ) -> Comparison {
        let mut out = Comparison::default();
        let mut was = old.into_iter().flatten().peekable();
        let mut is = new.into_iter().flatten().peekable();
        loop {
            let order = match (was.peek(), is.peek()) {
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return out,
            };
            let old = if order.is_le() { was.next() } else { None };
            let new = if order.is_ge() { is.next() } else { None };
            let Some((name, _)) = old.or(new) else { continue };
            let (old, new) = (old.map(|(_, value)| value), new.map(|(_, value)| value));
            let diff = self.below(&Dotted(name), ty.field_or_any(name), old, new);
            if diff.own != Fate::Kept || !diff.below.is_same() {
                attach(&mut out, Element::field(name), diff);
            }
        }
    }

    fn below(&mut self, step: &dyn std::fmt::Display, ty: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> Diff {
        let above = std::mem::take(&mut self.found);
        let diff = self.node(ty, old, new);
        let found = std::mem::replace(&mut self.found, above);
        self.found.below(step, found);
        diff
    }

    fn list(&mut self, ty: Type<'_>, old: Option<&[Value]>, new: Option<&[Value]>) -> Comparison {
        let mut out = Comparison::default();
        let (was, is) = match (items::index(ty, old), items::index(ty, new)) {
            (Ok(was), Ok(is)) => (was, is),
            (was, is) => {
                was.err().into_iter().chain(is.err()).for_each(|why| self.found.push(why));
                return out;
            }
        };
        let was = was.into_iter().map(|(element, value)| (element, Some(value), None));
        let is = is.into_iter().map(|(element, value)| (element, None, Some(value)));
        let mut all: Vec<(Element, Option<&Value>, Option<&Value>)> = was.chain(is).collect();
        // Stable, so that items of one step stay in the order of their lists.
        all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        for of_one in all.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some((element, ..)) = of_one.first() else { continue };
            let was: Vec<&Value> = of_one.iter().filter_map(|(_, was, _)| *was).collect();
            let is: Vec<&Value> = of_one.iter().filter_map(|(.., is)| *is).collect();
            let diff = self.items(ty.item(), element, &was, &is);
            attach(&mut out, element.clone(), diff);
        }
        out
    }

    /// Items of one step. Where there are several, nothing below them is told apart: together they are one value.
    fn items(&mut self, ty: Type<'_>, element: &Element, was: &[&Value], is: &[&Value]) -> Diff {
        let mut one = |old: Option<&&Value>, new: Option<&&Value>| self.below(element, ty, old.copied(), new.copied());
        match (was, is) {
            ([_, _, ..], [_, _, ..]) => {
                let equal = was.len() == is.len() && was.iter().zip(is).all(|(a, b)| same(a, b));
                Diff { own: if equal { Fate::Kept } else { Fate::Modified }, below: Comparison::default() }
            }
            ([_, _, ..], []) => Diff { own: Fate::Removed, below: Comparison::default() },
            ([], [_, _, ..]) => Diff { own: Fate::Added, below: Comparison::default() },
            // The mark of several goes as the one comes, and the other way round: the item is in both, and so is owned anew.
            ([_, _, ..], [_]) => Diff { own: Fate::Modified, ..one(None, is.first()) },
            ([_], [_, _, ..]) => Diff { own: Fate::Modified, ..one(was.first(), None) },
            _ => one(was.first(), is.first()),
        }
    }
}

/// A field, as it is shown in a path.
struct Dotted<'a>(&'a str);

impl std::fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, ".{}", self.0)
    }
}
