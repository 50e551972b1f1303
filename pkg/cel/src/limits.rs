//! Limits of expressions, and what operations cost. The numbers are upstream's.

/// As many code points may an expression have.
pub const MAX_EXPRESSION_SIZE: usize = 100_000;
/// As deep may the rules of the grammar be nested.
pub const MAX_RECURSION_DEPTH: u32 = 250;
/// What one evaluation may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all evaluations for one object may cost.
pub const RUNTIME_COST_BUDGET: u64 = 10_000_000;
/// What the match conditions of one request may cost.
pub const RUNTIME_COST_BUDGET_MATCH_CONDITIONS: u64 = 2_500_000;
/// The largest request, in bytes: no string, list or map can be larger than fits in.
pub const MAX_REQUEST_SIZE: u64 = 3 * 1024 * 1024;

pub(crate) const SELECT_AND_IDENT_COST: u64 = 1;
pub(crate) const LIST_CREATE_COST: u64 = 10;
pub(crate) const MAP_CREATE_COST: u64 = 30;
pub(crate) const STRUCT_CREATE_COST: u64 = 40;
/// For each character of a string that is read.
pub(crate) const STRING_FACTOR: f64 = 0.1;
/// For each character of a regular expression.
pub(crate) const REGEX_FACTOR: f64 = 0.25;
/// Of a check by the authorizer: an expression can afford two.
pub(crate) const AUTHORIZER_CHECK_COST: u64 = 350_000;
