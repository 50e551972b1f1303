//! Service accounts.

use crate::strategy::Strategy;

pub(crate) struct ServiceAccount;

impl Strategy for ServiceAccount {}
