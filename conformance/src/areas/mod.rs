//! The tests, by area.

mod apimachinery;
mod auth;

use kedge_base::BoxFuture;

use crate::context::TestContext;

/// A test by the name of its area and what it shows.
pub struct Test {
    pub name: &'static str,
    pub run: fn(TestContext) -> BoxFuture<'static, anyhow::Result<()>>,
}

/// All tests.
pub fn all() -> Vec<Test> {
    [apimachinery::tests(), auth::tests()].into_iter().flatten().collect()
}
