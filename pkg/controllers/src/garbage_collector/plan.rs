//! What becomes of an object, by the state of its owners.

use kedge_meta::{ObjectMeta, OwnerReference};

use super::graph::{FOREGROUND, ORPHAN};

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is there.
    Solid,
    /// It is gone, as the API server said.
    Gone,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

/// What to do with the dependent.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Keep it, with only these owner references.
    Release(Vec<OwnerReference>),
    /// Delete it with this propagation policy; `unblock` when its own owner must no longer wait for it, since it and its
    /// own dependents would else wait for one another.
    Delete {
        policy: &'static str,
        unblock: bool,
    },
}

/// `owners` are those of `object`, in their order. `dependents` says whether it has dependents of its own, and `cycle`
/// whether one of these waits for dependents itself.
pub fn verdict(object: &ObjectMeta, owners: &[Owner], dependents: bool, cycle: bool) -> Verdict {
    let count = |wanted: Owner| owners.iter().filter(|o| **o == wanted).count();
    let (solid, waiting) = (count(Owner::Solid), count(Owner::Waiting));
    if owners.is_empty() || solid == owners.len() {
        return Verdict::Keep;
    }
    if solid > 0 {
        let both = object.owner_references.iter().zip(owners);
        return Verdict::Release(both.filter(|(_, o)| **o == Owner::Solid).map(|(r, _)| r.clone()).collect());
    }
    if waiting > 0 && dependents {
        return Verdict::Delete { policy: "Foreground", unblock: cycle };
    }
    let has = |finalizer: &str| object.finalizers.iter().any(|f| f == finalizer);
    // Somebody has chosen already what becomes of the dependents.
    let policy = match () {
        () if has(ORPHAN) => "Orphan",
        () if has(FOREGROUND) => "Foreground",
        () => "Background",
    };
    Verdict::Delete { policy, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(owners: &[&str]) -> ObjectMeta {
        let owner = |uid: &&str| OwnerReference { uid: (*uid).into(), ..OwnerReference::default() };
        ObjectMeta { owner_references: owners.iter().map(owner).collect(), ..ObjectMeta::default() }
    }

    #[test]
    fn an_object_lives_as_long_as_one_of_its_owners() {
        let two = object(&["a", "b"]);
        assert_eq!(verdict(&two, &[Owner::Solid, Owner::Solid], false, false), Verdict::Keep);
        let released = verdict(&two, &[Owner::Gone, Owner::Solid], false, false);
        assert_eq!(released, Verdict::Release(vec![two.owner_references[1].clone()]));
        let gone = verdict(&two, &[Owner::Gone, Owner::Gone], true, false);
        assert_eq!(gone, Verdict::Delete { policy: "Background", unblock: false });
    }

    #[test]
    fn foreground_deletion_goes_down_the_tree() {
        let one = object(&["a"]);
        let with = verdict(&one, &[Owner::Waiting], true, false);
        assert_eq!(with, Verdict::Delete { policy: "Foreground", unblock: false });
        let without = verdict(&one, &[Owner::Waiting], false, false);
        assert_eq!(without, Verdict::Delete { policy: "Background", unblock: false });
        let mut orphaning = object(&["a"]);
        orphaning.finalizers.push(ORPHAN.into());
        let orphan = verdict(&orphaning, &[Owner::Gone], false, false);
        assert_eq!(orphan, Verdict::Delete { policy: "Orphan", unblock: false });
    }
}
