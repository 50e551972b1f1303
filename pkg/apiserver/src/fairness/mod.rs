//! API priority and fairness: which flow schema a request matches, to which priority level it so belongs, and when it is its turn.
//!
//! The stored flow schemas are compiled into an index when they or the levels have changed; to classify a request reads the
//! index only, and takes time that grows with the schemas that are about this user, not with those that there are.
//!
//! Invariants: schemas are asked in upstream's order, precedence and then name; one whose level does not exist is asked nothing. A level
//! keeps its [seats](queues) through all its changes, and those who wait at one that goes are still served. Nothing runs while nobody asks:
//! who [borrows](shares) from whom is worked out anew by those that come and those that wait.
//!
//! # Layers
//! - dump show
//! - index
//! - rules width queues
//! - flows
//! - deal demand shares retry

mod deal;
mod demand;
mod dump;
mod flows;
mod index;
mod queues;
mod retry;
mod rules;
mod shares;
mod show;
mod width;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use kedge_base::SharedClock;
use kedge_base::exposition::Exposition;
use kedge_meta::UserInfo;
use kedge_registry::{Catalogue, Registry};
use kedge_storage::{Matcher, ResourceStore};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::input::request_info::RequestInfo;
use demand::Wanted;
use index::Index;
use queues::{Asked, Asking, Response, Seats};
pub(crate) use queues::{Refused, Seat};
use retry::Retry;
use rules::{Distinguisher, PriorityLevel};
use shares::{Bounds, Need};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// How often it is worked out who borrows. As upstream.
const ADJUSTED: Duration = Duration::from_secs(10);

/// A priority level.
pub(crate) struct Level {
    pub(crate) name: String,
    uid: HeaderValue,
    response: Response,
    bounds: Bounds,
    /// How many seats one request may take at most.
    most: Option<usize>,
    seats: Arc<Seats>,
    demand: Mutex<Wanted>,
    retry: Arc<Retry>,
}

/// A flow schema, and the level of what matches it.
pub(crate) struct Schema {
    pub(crate) name: Arc<str>,
    uid: HeaderValue,
    distinguisher: Option<Distinguisher>,
    pub(crate) level: Arc<Level>,
}

impl Schema {
    /// Says in the head of an answer how its request was classified: by identities, since names are nobody's business.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.uid.clone());
        headers.insert(LEVEL_UID, self.level.uid.clone());
    }

    /// Whether there is a seat for everybody.
    pub(crate) fn is_exempt(&self) -> bool {
        self.level.response == Response::Exempt
    }

    /// One of its requests is refused; after how many seconds it may come again.
    pub(crate) fn retry_after(&self, now: Duration) -> i64 {
        self.level.retry.refuse(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    }
}

/// Classifies requests, and gives them their turns.
pub(crate) struct Fairness {
    /// None where these kinds are not served.
    stores: Option<Stores>,
    compiled: RwLock<Arc<Compiled>>,
    compiling: Mutex<()>,
    /// Seats of all levels together.
    total: usize,
    clock: SharedClock,
    adjusted: Mutex<Duration>,
}

struct Stores {
    schemas: ResourceStore,
    levels: ResourceStore,
}

#[derive(Default)]
struct Compiled {
    /// Of the last changes of schemas and levels.
    version: [u64; 2],
    index: Index,
    levels: Vec<Arc<Level>>,
}

impl Fairness {
    pub(crate) fn new(registry: &Registry, total: usize, clock: &SharedClock) -> Self {
        let store = |plural| registry.builtin(GROUP, "v1", plural).map(|served| served.store.clone());
        let stores = store("flowschemas").zip(store("prioritylevelconfigurations"));
        Self {
            stores: stores.map(|(schemas, levels)| Stores { schemas, levels }),
            compiled: RwLock::default(),
            compiling: Mutex::default(),
            total,
            clock: clock.clone(),
            adjusted: Mutex::new(clock.monotonic()),
        }
    }

    /// The flow schema that a request matches. As upstream, what streams has none: it takes no turn. Neither has anything
    /// before there is a schema for everybody.
    pub(crate) fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Option<Arc<Schema>> {
        if info.streams() {
            return None;
        }
        let stores = self.stores.as_ref()?;
        self.current(stores).index.find(user, info).cloned()
    }

    /// Waits for the turn of a request, for no longer than `within`.
    ///
    /// # Errors
    /// Why it has none.
    pub(crate) async fn seat(
        &self,
        schema: &Schema,
        (user, info): (&UserInfo, &RequestInfo),
        catalogue: &Catalogue,
        within: Duration,
    ) -> Result<Seat, Refused> {
        self.adjust();
        let level = &schema.level;
        let flow = match schema.distinguisher {
            Some(Distinguisher::ByUser) => user.name.as_str(),
            Some(Distinguisher::ByNamespace) => &info.namespace,
            None => "",
        };
        let seats = width::seats(info, catalogue, level.most);
        let what = dump::What::of(&user.name, info);
        match level.seats.ask(Asking { schema: schema.name.clone(), flow: flow.into(), seats, what }) {
            Asked::Seated(seat) => Ok(seat),
            Asked::Refused(why) => Err(why),
            Asked::Waits(turn) => turn.seat(within, || self.adjust()).await,
        }
    }

    /// Works out anew how many seats each level has, if it is time to; says how long until it is the next time.
    fn adjust(&self) -> Duration {
        let now = self.clock.monotonic();
        let mut adjusted = self.adjusted.lock();
        let passed = now.saturating_sub(*adjusted);
        if passed < ADJUSTED {
            return ADJUSTED - passed;
        }
        *adjusted = now;
        drop(adjusted);
        let compiled = self.compiled.read().clone();
        compiled.allocate();
        ADJUSTED
    }

    fn current(&self, stores: &Stores) -> Arc<Compiled> {
        let version = || [stores.schemas.newest(), stores.levels.newest()];
        let compiled = self.compiled.read().clone();
        if compiled.version == version() {
            return compiled;
        }
        // Two that made the seats of a level would each give out all of them.
        let _compiling = self.compiling.lock();
        let before = self.compiled.read().clone();
        let version = version();
        if before.version == version {
            return before;
        }
        let levels = self.levels(read(&stores.levels), &before.levels);
        let index = Index::new(read(&stores.schemas), &levels);
        let known: HashMap<&str, _> = index.names().map(|name| (name, ())).collect();
        for level in &levels {
            level.seats.forget_flows(|name| known.contains_key(name));
        }
        drop(known);
        let fresh = Arc::new(Compiled { version, index, levels });
        fresh.allocate();
        *self.compiled.write() = fresh.clone();
        fresh
    }

    /// The levels, with the seats of those before that have their names.
    fn levels(&self, mut read: Vec<PriorityLevel>, before: &[Arc<Level>]) -> Vec<Arc<Level>> {
        read.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let understood: Vec<_> =
            read.into_iter().filter_map(|level| Some((level.understood()?, level.metadata))).collect();
        let sum = understood.iter().map(|((_, share), _)| share.shares).fold(0, u32::saturating_add);
        let level = |((response, share), metadata): ((Response, shares::Share), Meta)| {
            let bounds = Bounds::of(share, self.total, sum);
            let known = before.iter().find(|level| level.name == metadata.name);
            let seats = match known {
                Some(known) => {
                    known.seats.configure(response);
                    known.seats.clone()
                }
                None => Seats::new(response, bounds.initial(), &self.clock),
            };
            let most = match response {
                Response::Queue { hand, .. } => {
                    let part = (bounds.nominal as f64 * MOST).ceil() as usize;
                    Some(part.min(bounds.nominal / hand.max(1)).max(1))
                }
                _ => None,
            };
            let demand = known.map(|known| *known.demand.lock()).unwrap_or_default();
            let retry = known.map(|known| known.retry.clone()).unwrap_or_default();
            let uid = metadata.uid();
            Arc::new(Level {
                name: metadata.name,
                uid,
                response,
                bounds,
                most,
                seats,
                demand: Mutex::new(demand),
                retry,
            })
        };
        understood.into_iter().map(level).collect()
    }

    /// A page about who waits and who is served, if there is one at that path.
    pub(crate) fn page(&self, info: &RequestInfo) -> Option<String> {
        let details = !info.param("includeRequestDetails").is_empty();
        dump::page(&info.path, details, &self.compiled.read().levels, &self.clock)
    }

    /// Writes out its metrics.
    pub(crate) fn show(&self, out: &mut Exposition) {
        show::show(out, &self.compiled.read().levels);
    }
}

/// The part of its level's seats that one request may take, as upstream.
const MOST: f64 = 0.15;

impl Compiled {
    /// Gives each level as many seats as it needs and may have.
    fn allocate(&self) {
        let needs: Vec<Need> = self.levels.iter().map(|level| level.need()).collect();
        for (level, seats) in self.levels.iter().zip(shares::allocate(&needs)) {
            if level.seats.set_limit(seats) {
                debug!(level = level.name, seats, "a priority level has another number of seats");
            }
        }
    }
}

impl Level {
    /// What it needs, by what was wanted since this was asked for the last time.
    fn need(&self) -> Need {
        let mut demand = self.demand.lock();
        *demand = self.seats.wanted(*demand);
        Need {
            bounds: self.bounds,
            exempt: self.response == Response::Exempt,
            highest: demand.highest.round() as usize,
            smoothed: demand.smoothed,
        }
    }
}

/// What is read of any object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
    uid: String,
}

impl Meta {
    /// What is not fit for a header is no identity that this server has given.
    fn uid(&self) -> HeaderValue {
        HeaderValue::from_str(&self.uid).unwrap_or(HeaderValue::from_static(""))
    }
}

fn read<T: DeserializeOwned>(store: &ResourceStore) -> Vec<T> {
    let parse = |(key, object): (Arc<str>, Arc<kedge_storage::Object>)| {
        serde_json::from_slice(&object.stored())
            .inspect_err(
                |err| warn!(%key, error = %err, "a flow schema or priority level cannot be read and is nothing"),
            )
            .ok()
    };
    store.readable("", &Matcher::default()).objects.into_iter().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::VirtualClock;

    /// A level with one seat.
    pub(super) fn level(name: &str) -> Arc<Level> {
        let clock: SharedClock = Arc::new(VirtualClock::new(jiff::Timestamp::UNIX_EPOCH));
        Arc::new(Level {
            name: name.to_owned(),
            uid: HeaderValue::from_str(&format!("{name}-uid")).unwrap(),
            response: Response::Reject,
            bounds: Bounds::default(),
            most: None,
            seats: Seats::new(Response::Reject, 1, &clock),
            demand: Mutex::default(),
            retry: Arc::default(),
        })
    }
}
