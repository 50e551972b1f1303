//! Token requests.

use super::Hook::{self, Before};
use super::object::if_absent;

/// Seconds that a token lives when nothing is asked for.
const EXPIRATION: i32 = 3600;

pub(super) const HOOKS: &[Hook] = &[Before("api.authentication.v1.TokenRequestSpec", |spec| {
    if_absent(spec, "expirationSeconds", EXPIRATION);
})];
