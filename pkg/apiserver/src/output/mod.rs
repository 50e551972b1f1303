//! What a client is shown: objects, lists, tables, in the form that it asked for.

pub(crate) mod items;
pub(crate) mod object;
pub(crate) mod protobuf;
pub(crate) mod respond;
pub(crate) mod table;
