//! Which types fit where, and what is found out about unknown ones on the way.
//!
//! Invariants: what was found out while something did not fit is forgotten; no unknown type is found to contain itself.

use std::sync::Arc;

use crate::types::Type;

/// What is known about types that have no name yet.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    found: Vec<Option<Type>>,
    /// What was there before, to go back.
    trail: Vec<(u32, Option<Type>)>,
}

impl Mapping {
    /// A type that nothing is known of.
    pub fn fresh(&mut self) -> Type {
        self.found.push(None);
        Type::Var(self.found.len() as u32 - 1)
    }

    fn find(&self, of: &Type) -> Option<&Type> {
        match of {
            Type::Var(n) => self.found.get(*n as usize)?.as_ref(),
            _ => None,
        }
    }

    fn set(&mut self, of: &Type, to: Type) {
        if let Type::Var(n) = of
            && let Some(place) = self.found.get_mut(*n as usize)
        {
            self.trail.push((*n, place.replace(to)));
        }
    }

    fn undo(&mut self, mark: usize) {
        while self.trail.len() > mark {
            if let Some((n, before)) = self.trail.pop() {
                self.found[n as usize] = before;
            }
        }
    }

    /// Whether something of the second type can be where the first is wanted.
    pub fn assignable(&mut self, wanted: &Type, is: &Type) -> bool {
        self.all_assignable(std::slice::from_ref(wanted), std::slice::from_ref(is))
    }

    /// The same for several.
    pub fn all_assignable(&mut self, wanted: &[Type], are: &[Type]) -> bool {
        let mark = self.trail.len();
        let fits = self.fit_all(wanted, are);
        if fits {
            self.trail.clear();
        } else {
            self.undo(mark);
        }
        fits
    }

    fn fit_all(&mut self, wanted: &[Type], are: &[Type]) -> bool {
        wanted.len() == are.len() && wanted.iter().zip(are).all(|(wanted, is)| self.fits(wanted, is))
    }

    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if matches!(b, Type::Var(_)) {
            match self.substitute_with(a, b) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if matches!(a, Type::Var(_)) {
            return self.substitute_with(b, a).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        if *a == Type::Null || *b == Type::Null {
            return nullable(if *a == Type::Null { b } else { a });
        }
        match (a, b) {
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Opaque(name, a), Type::Opaque(other, b)) => name == other && self.fit_all(a, b),
            _ => a == b,
        }
    }

    /// Takes the first type for the second, which is unknown; says whether it can be, and whether something was known already.
    fn substitute_with(&mut self, a: &Type, b: &Type) -> (bool, bool) {
        if a == b {
            return (true, true);
        }
        if let Some(known) = self.find(b).cloned() {
            if *a == known {
                return (true, true);
            }
            if self.fits(a, &known) {
                let general = most_general(a, &known);
                if self.absent(b, &general) {
                    self.set(b, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.absent(b, a) {
            self.set(b, a.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether an unknown type is not in another.
    fn absent(&self, of: &Type, within: &Type) -> bool {
        if of == within {
            return false;
        }
        match within {
            Type::Var(_) => self.find(within).is_none_or(|known| self.absent(of, known)),
            Type::Map(it) => self.absent(of, &it.0) && self.absent(of, &it.1),
            other => other.parameters().iter().all(|it| self.absent(of, it)),
        }
    }

    /// A type with what is known of it; what is not known is `dyn`, if that is wanted.
    pub fn substitute(&self, of: &Type, unknown_is_dyn: bool) -> Type {
        if let Some(known) = self.find(of) {
            return self.substitute(known, unknown_is_dyn);
        }
        match of {
            Type::Var(_) if unknown_is_dyn => Type::Dyn,
            Type::List(it) => Type::list(self.substitute(it, unknown_is_dyn)),
            Type::Map(it) => Type::map(self.substitute(&it.0, unknown_is_dyn), self.substitute(&it.1, unknown_is_dyn)),
            Type::Opaque(name, it) => {
                Type::Opaque(name.clone(), it.iter().map(|it| self.substitute(it, unknown_is_dyn)).collect())
            }
            Type::Type(Some(it)) => Type::Type(Some(Arc::new(self.substitute(it, unknown_is_dyn)))),
            other => other.clone(),
        }
    }
}

/// What may be null.
fn nullable(of: &Type) -> bool {
    matches!(of, Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp)
}

/// The one of two types that says less.
pub(super) fn most_general(a: &Type, b: &Type) -> Type {
    if says_no_more(a, b) { a.clone() } else { b.clone() }
}

fn says_no_more(a: &Type, b: &Type) -> bool {
    if a.is_dyn() || matches!(a, Type::Var(_)) {
        return true;
    }
    if b.is_dyn() || matches!(b, Type::Var(_)) {
        return false;
    }
    match (a, b) {
        (Type::Opaque(name, a), Type::Opaque(other, b)) => {
            name == other && a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| says_no_more(a, b))
        }
        (Type::List(a), Type::List(b)) => says_no_more(a, b),
        (Type::Map(a), Type::Map(b)) => says_no_more(&a.0, &b.0) && says_no_more(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}
