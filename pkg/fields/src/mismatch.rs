//! What of an object does not fit its type, in upstream's words.

use std::fmt::{self, Display};

/// No more than that many are named.
const MAX_NAMED: usize = 100;

/// One value that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// `.spec.containers[name="a"]`; empty for the object.
    pub path: String,
    pub message: String,
}

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// All values that do not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatches(pub(crate) Vec<Mismatch>);

impl Mismatches {
    pub(crate) fn push(&mut self, message: String) {
        if self.0.len() < MAX_NAMED {
            self.0.push(Mismatch { path: String::new(), message });
        }
    }

    /// Takes over what was found below a step.
    pub(crate) fn below(&mut self, step: &dyn Display, found: Self) {
        for mut mismatch in found.0 {
            if self.0.len() < MAX_NAMED {
                mismatch.path.insert_str(0, &step.to_string());
                self.0.push(mismatch);
            }
        }
    }

    pub(crate) fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Display for Mismatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = self.0.as_slice() {
            return one.fmt(f);
        }
        f.write_str("errors:")?;
        self.0.iter().try_for_each(|mismatch| write!(f, "\n  {mismatch}"))
    }
}

impl std::error::Error for Mismatches {}
