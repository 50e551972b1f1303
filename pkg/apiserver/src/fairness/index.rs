//! Flow schemas by those whom they are about.

use std::collections::HashMap;
use std::sync::Arc;

use kedge_meta::UserInfo;

use super::rules::{FlowSchema, PolicyRule, Whom};
use super::{Level, Schema};
use crate::input::request_info::RequestInfo;

/// What names of service accounts begin with; namespace and name follow.
pub(super) const ACCOUNT: &str = "system:serviceaccount:";
/// The schema of what matches none.
const CATCH_ALL: &str = "catch-all";

/// Places of rules, the first to be asked first.
type Places = Vec<usize>;

/// The rules of all schemas in the order in which they are asked, and which of them are about whom.
#[derive(Default)]
pub(super) struct Index {
    rules: Vec<(Arc<Schema>, PolicyRule)>,
    everybody: Places,
    users: HashMap<String, Places>,
    groups: HashMap<String, Places>,
    /// By namespace.
    accounts: HashMap<String, Places>,
    catch_all: Option<Arc<Schema>>,
}

impl Index {
    pub fn new(mut schemas: Vec<FlowSchema>, levels: &[Arc<Level>]) -> Self {
        let levels: HashMap<&str, &Arc<Level>> = levels.iter().map(|level| (level.name.as_str(), level)).collect();
        schemas.sort_by(|a, b| {
            (a.spec.matching_precedence, &a.metadata.name).cmp(&(b.spec.matching_precedence, &b.metadata.name))
        });
        let mut index = Self::default();
        for FlowSchema { metadata, spec } in schemas {
            let Some(level) = levels.get(&*spec.priority_level_configuration.name) else { continue };
            let uid = metadata.uid();
            let distinguisher = spec.distinguisher_method.map(|method| method.by);
            let schema = Schema { name: metadata.name.into(), uid, distinguisher, level: Arc::clone(level) };
            let schema = Arc::new(schema);
            if &*schema.name == CATCH_ALL {
                index.catch_all = Some(schema.clone());
            }
            for rule in spec.rules.unwrap_or_default() {
                index.add(&schema, rule);
            }
        }
        index
    }

    fn add(&mut self, schema: &Arc<Schema>, rule: PolicyRule) {
        let place = self.rules.len();
        for whom in rule.subjects.iter().flatten().filter_map(|subject| subject.whom()) {
            let places = match whom {
                Whom::Everybody => &mut self.everybody,
                Whom::User(name) => self.users.entry(name).or_default(),
                Whom::Group(name) => self.groups.entry(name.to_owned()).or_default(),
                Whom::Accounts(namespace) => self.accounts.entry(namespace.to_owned()).or_default(),
            };
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
        self.rules.push((schema.clone(), rule));
    }

    /// The names of the schemas that something is about.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|(schema, _)| schema).chain(&self.catch_all).map(|schema| &*schema.name)
    }

    /// The schema that a request matches.
    pub fn find(&self, user: &UserInfo, info: &RequestInfo) -> Option<&Arc<Schema>> {
        let namespace = user.name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':')).map(|(name, _)| name);
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        let about = [Some(&self.everybody), self.users.get(&user.name), namespace.and_then(|n| self.accounts.get(n))];
        let mut first = self.rules.len();
        for places in about.into_iter().flatten().chain(groups) {
            let earlier = places.iter().take_while(|place| **place < first);
            if let Some(place) = earlier.copied().find(|place| self.rules[*place].1.matches(info)) {
                first = place;
            }
        }
        self.rules.get(first).map(|(schema, _)| schema).or(self.catch_all.as_ref())
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
