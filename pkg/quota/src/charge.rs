//! Charging quotas with an object that is about to be stored.

use jiff::Timestamp;
use kedge_meta::quantity::Quantity;
use serde_json::Value;

use crate::amounts::{self, Amounts, add, growth, listed};
use crate::item::Item;
use crate::scope::Requirement;

/// A quota as its controller has last seen it, with what has been charged since.
#[derive(Debug, Clone)]
pub struct Quota<'a> {
    pub name: &'a str,
    /// Of the status: what is not there yet is not enforced.
    pub hard: Amounts,
    pub used: Amounts,
    pub scopes: Vec<Requirement<'a>>,
}

/// A write that quotas are asked about.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    pub item: Item<'a>,
    /// What was there before; none for what is created.
    pub old: Option<Item<'a>>,
    /// Whether more than what is allowed is refused. What a status says is counted, not refused.
    pub enforced: bool,
}

impl<'a> Quota<'a> {
    /// A quota that is a tree.
    pub fn of(quota: &'a Value) -> Self {
        let field = |at: &str| quota["status"].get(at);
        Self {
            name: quota["metadata"]["name"].as_str().unwrap_or_default(),
            hard: amounts::of(field("hard")),
            used: amounts::of(field("used")),
            scopes: scopes(&quota["spec"]),
        }
    }

    fn concerned(&self, item: &Item<'_>) -> Vec<&str> {
        self.hard.keys().map(String::as_str).filter(|name| item.concerns(name)).collect()
    }

    fn matches(&self, item: &Item<'_>) -> bool {
        self.hard.keys().any(|name| item.concerns(name)) && item.in_scopes(&self.scopes)
    }

    /// What it would have used after this, or why it cannot.
    fn charged(&self, usage: &Amounts, enforced: bool) -> Result<Amounts, String> {
        let requested: Amounts =
            usage.iter().filter(|(name, _)| self.hard.contains_key(*name)).map(|(n, a)| (n.clone(), *a)).collect();
        let mut used = self.used.clone();
        add(&mut used, &requested);
        if enforced {
            let exceeds = |name: &str| used.get(name).zip(self.hard.get(name)).is_some_and(|(used, hard)| used > hard);
            let only = |of: &Amounts| -> Amounts {
                let over = of.iter().filter(|(name, _)| requested.contains_key(*name) && exceeds(name));
                over.map(|(name, amount)| (name.clone(), *amount)).collect()
            };
            let over = only(&requested);
            if !over.is_empty() {
                return Err(format!(
                    "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                    self.name,
                    listed(&over),
                    listed(&only(&self.used)),
                    listed(&only(&self.hard))
                ));
            }
        }
        Ok(used)
    }
}

/// The scopes of a quota's specification.
fn scopes(spec: &Value) -> Vec<Requirement<'_>> {
    let named = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).map(Requirement::exists);
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten().map(|e| Requirement {
        scope: e["scopeName"].as_str().unwrap_or_default(),
        operator: e["operator"].as_str().unwrap_or_default(),
        values: e["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    });
    named.chain(selected).collect()
}

/// Charges the quotas that a write concerns. Returns whether any of them has changed.
///
/// # Errors
/// Why it cannot be, in upstream's words; nothing has been charged then.
pub fn charge(quotas: &mut [Quota<'_>], change: &Change<'_>, now: Timestamp) -> Result<bool, String> {
    let item = &change.item;
    let mut interesting = Vec::new();
    for (at, quota) in quotas.iter().enumerate().filter(|(_, quota)| quota.matches(item)) {
        let names = quota.concerned(item);
        item.check(&names).map_err(|why| format!("failed quota: {}: {why}", quota.name))?;
        if names.iter().any(|name| !quota.used.contains_key(*name)) {
            return Err(format!("status unknown for quota: {}, resources: {}", quota.name, names.join(",")));
        }
        interesting.push(at);
    }
    if interesting.is_empty() {
        return Ok(false);
    }
    let usage = item.usage(now);
    let negative: Vec<&str> = usage.iter().filter(|(_, a)| a.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let before = change.old.as_ref().map(|old| old.usage(now));
    let mut charged = Vec::new();
    for at in interesting {
        let quota = &quotas[at];
        // What was in the quota before counts by what it has grown; what comes into its scope counts whole.
        let was_in = change.old.as_ref().is_some_and(|old| quota.matches(old));
        let mut due = match before.as_ref().filter(|_| was_in) {
            Some(before) => growth(&usage, before),
            None => usage.clone(),
        };
        due.retain(|_, amount| *amount != Quantity::ZERO);
        if !due.is_empty() {
            charged.push((at, quota.charged(&due, change.enforced)?));
        }
    }
    let mut changed = false;
    for (at, used) in charged {
        changed |= quotas[at].used != used;
        quotas[at].used = used;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn quota(name: &str, hard: Value, used: Value, spec: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": spec, "status": {"hard": hard, "used": used}})
    }

    fn pod(cpu: &str, memory: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"memory": memory}}}]}})
    }

    fn created<'a>(plural: &str, object: &'a Value) -> Change<'a> {
        Change { item: Item::of("", plural, object), old: None, enforced: true }
    }

    #[test]
    fn what_does_not_fit_is_named_and_charges_nothing() {
        let small = quota(
            "cpu",
            json!({"requests.cpu": "1", "limits.memory": "1Gi", "pods": "9"}),
            json!({"requests.cpu": "600m", "limits.memory": "512Mi", "pods": "1"}),
            json!({}),
        );
        let large = quota("all", json!({"pods": "5"}), json!({"pods": "1"}), json!({}));
        let mut quotas = [Quota::of(&large), Quota::of(&small)];
        let said = charge(&mut quotas, &created("pods", &pod("500m", "600Mi")), NOW).unwrap_err();
        assert_eq!(
            said,
            "exceeded quota: cpu, requested: limits.memory=600Mi,requests.cpu=500m, \
             used: limits.memory=512Mi,requests.cpu=600m, limited: limits.memory=1Gi,requests.cpu=1"
        );
        assert_eq!(listed(&quotas[0].used), "pods=1", "the first quota was not charged either");
        assert_eq!(charge(&mut quotas, &created("pods", &pod("400m", "1Mi")), NOW), Ok(true));
        assert_eq!(listed(&quotas[1].used), "limits.memory=513Mi,pods=2,requests.cpu=1");
        assert_eq!(listed(&quotas[0].used), "pods=2");
    }

    #[test]
    fn what_must_be_said_and_what_is_not_known() {
        let asking = quota("q", json!({"requests.cpu": "1"}), json!({"requests.cpu": "0"}), json!({}));
        let bare = json!({"spec": {"containers": [{"name": "c"}]}});
        let said = charge(&mut [Quota::of(&asking)], &created("pods", &bare), NOW).unwrap_err();
        assert_eq!(said, "failed quota: q: must specify requests.cpu for: c");
        let fresh = quota("q", json!({"pods": "1", "count/pods": "2"}), json!({}), json!({}));
        let said = charge(&mut [Quota::of(&fresh)], &created("pods", &bare), NOW).unwrap_err();
        assert_eq!(said, "status unknown for quota: q, resources: count/pods,pods");
        let unseen = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}});
        assert_eq!(
            charge(&mut [Quota::of(&unseen)], &created("pods", &bare), NOW),
            Ok(false),
            "nobody has looked at it"
        );
        let negative = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "-1"}}}]}});
        let said = charge(&mut [Quota::of(&asking)], &created("pods", &negative), NOW).unwrap_err();
        assert_eq!(said, "quota usage is negative for resource(s): cpu,requests.cpu");
    }

    #[test]
    fn a_change_counts_by_its_growth() {
        let full = quota("q", json!({"requests.cpu": "1"}), json!({"requests.cpu": "1"}), json!({}));
        let (small, large) = (pod("400m", "1Mi"), pod("600m", "1Mi"));
        let update =
            |from, to| Change { item: Item::of("", "pods", to), old: Some(Item::of("", "pods", from)), enforced: true };
        assert_eq!(charge(&mut [Quota::of(&full)], &update(&large, &small), NOW), Ok(false), "it shrinks");
        let said = charge(&mut [Quota::of(&full)], &update(&small, &large), NOW).unwrap_err();
        assert!(said.contains("requested: requests.cpu=200m, used: requests.cpu=1"), "{said}");
        let mut status = update(&small, &large);
        status.enforced = false;
        let mut quotas = [Quota::of(&full)];
        assert_eq!(charge(&mut quotas, &status, NOW), Ok(true), "what is so is counted");
        assert_eq!(listed(&quotas[0].used), "requests.cpu=1200m");
        // One that comes into the scope of a quota counts whole.
        let ending = quota("t", json!({"pods": "1"}), json!({"pods": "1"}), json!({"scopes": ["Terminating"]}));
        let mut deadline = small.clone();
        deadline["spec"]["activeDeadlineSeconds"] = 5.into();
        let said = charge(&mut [Quota::of(&ending)], &update(&small, &deadline), NOW).unwrap_err();
        assert!(said.starts_with("exceeded quota: t, requested: pods=1"), "{said}");
    }

    #[test]
    fn quotas_concern_what_is_in_their_scope() {
        let scope = json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
        let high = quota("high", json!({"pods": "0"}), json!({"pods": "0"}), scope);
        let mut pod = pod("1", "1");
        assert_eq!(charge(&mut [Quota::of(&high)], &created("pods", &pod), NOW), Ok(false));
        pod["spec"]["priorityClassName"] = "high".into();
        assert!(charge(&mut [Quota::of(&high)], &created("pods", &pod), NOW).is_err());
        let maps = quota("m", json!({"count/configmaps": "1"}), json!({"count/configmaps": "1"}), json!({}));
        let said = charge(&mut [Quota::of(&maps)], &created("configmaps", &json!({})), NOW).unwrap_err();
        let wanted =
            "exceeded quota: m, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1";
        assert_eq!(said, wanted);
        assert_eq!(charge(&mut [Quota::of(&maps)], &created("secrets", &json!({})), NOW), Ok(false));
    }
}
