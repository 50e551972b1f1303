//! Leases.

use super::{AGE, NAME, Printer, text};

pub(super) static LEASE: Printer = Printer {
    columns: &[NAME, text("Holder"), AGE],
    cells: |row| vec![row.name(), row.text_or(&["spec", "holderIdentity"], ""), row.age()],
};
