//! What a client is shown: objects, lists, tables, in the form that it asked for.
//!
//! # Layers
//!
//! 1. `items`, `object`: what is stored
//! 2. `list`, `protobuf`
//! 3. `table`, `respond`
//! 4. `indent`

pub(crate) mod indent;
pub(crate) mod items;
pub(crate) mod list;
pub(crate) mod object;
pub(crate) mod protobuf;
pub(crate) mod respond;
pub(crate) mod table;
