//! What a request says: its path and query, the forms that it speaks, its body.

pub(crate) mod decode;
pub(crate) mod negotiate;
pub(crate) mod options;
pub(crate) mod patch;
pub(crate) mod request_info;
