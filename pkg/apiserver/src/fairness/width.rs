//! How many seats a request takes: a list as many as it is large, everything else one.
//!
//! Writes are as wide as any other request, however many watch: an event is encoded once for all watchers, and they read it at their own
//! pace. Upstream counts a seat for every ten of them.

use kedge_registry::Catalogue;

use crate::input::request_info::RequestInfo;

/// Bytes of a list for a seat; a list is read piece by piece, so that a large one takes no more than [`AT_ONCE`]. As upstream.
const A_SEAT: usize = 100_000;
const AT_ONCE: usize = 1_000_000;
/// No list takes more seats, whatever its level has.
const MOST: usize = 100;

/// The seats of a request at a level where one may take `most` of them, if there is such a limit.
pub(super) fn seats(info: &RequestInfo, catalogue: &Catalogue, most: Option<usize>) -> usize {
    let initial = || matches!(info.param("resourceVersion"), "" | "0") || info.param("sendInitialEvents") == "true";
    let whole = info.verb == "list" || (info.verb == "watch" && initial());
    if !info.is_resource || !whole || !info.name.is_empty() {
        return 1;
    }
    let Some((objects, bytes)) = catalogue.held(&info.group, &info.version, &info.resource) else { return 1 };
    let limit = info.param("limit").parse::<usize>().ok().filter(|limit| *limit > 0).unwrap_or(objects);
    let taken = limit.min(objects) * (bytes / objects.max(1));
    taken.min(AT_ONCE).div_ceil(A_SEAT).clamp(1, most.unwrap_or(MOST).min(MOST))
}
