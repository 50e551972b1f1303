//! Who may do what: every route of a server and every verb, asked by every kind of user.
//!
//! Routes come from the server's own [discovery](routes), so that a new one is asked for without being named anywhere; users are
//! a [fixed list](users) with real credentials; what came of it is a [table](table). The table that is checked in was compared
//! with that of a stock kube-apiserver, which [`run`] does.

mod ask;
mod fixture;
mod named;
mod routes;
mod run;
mod table;
mod users;

pub(crate) use ask::Asker;
pub use run::{Asked, ask, run};
pub use table::{Cells, Key, Table};
pub use users::{CONTROLLERS, PEOPLE};
