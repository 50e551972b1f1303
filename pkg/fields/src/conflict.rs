//! Fields that somebody else owns and that would be changed.

use crate::entry::Manager;
use crate::set::Set;

/// One such field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub manager: Manager,
    /// `.spec.replicas`.
    pub path: String,
}

impl Conflict {
    /// What a client is told of it.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// All of them, by manager.
#[derive(Clone, Debug, Default)]
pub struct Conflicts(Vec<(Manager, Set)>);

impl Conflicts {
    pub(crate) fn add(&mut self, manager: &Manager, fields: Set) {
        if !fields.is_empty() {
            self.0.push((manager.clone(), fields));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without those about fields of a set.
    pub(crate) fn without(self, allowed: &Set) -> Self {
        let left = self.0.into_iter().map(|(manager, fields)| (manager, fields.difference(allowed)));
        Self(left.filter(|(_, fields)| !fields.is_empty()).collect())
    }

    /// Each of them.
    pub fn list(&self) -> Vec<Conflict> {
        let paths = |(manager, fields): &(Manager, Set)| {
            let path = |way: Vec<crate::Element>| way.iter().map(ToString::to_string).collect::<String>();
            let conflict = |way| Conflict { manager: manager.clone(), path: path(way) };
            fields.members().into_iter().map(conflict).collect::<Vec<_>>()
        };
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by_cached_key(|(manager, _)| manager.sort_key());
        sorted.into_iter().flat_map(paths).collect()
    }
}

/// Upstream's words.
impl std::fmt::Display for Conflicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.list();
        if let [one] = all.as_slice() {
            return write!(f, "Apply failed with 1 conflict: {}: {}", one.message(), one.path);
        }
        write!(f, "Apply failed with {} conflicts: ", all.len())?;
        for (at, of_one) in all.chunk_by(|a, b| a.manager == b.manager).enumerate() {
            let newline = if at > 0 { "\n" } else { "" };
            let Some(first) = of_one.first() else { continue };
            write!(f, "{newline}conflicts with {}:", first.manager)?;
            of_one.iter().try_for_each(|conflict| write!(f, "\n- {}", conflict.path))?;
        }
        Ok(())
    }
}
