//! What a list or a watch is of: selectors, versions and pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kedge_meta::field::{self, ErrorList, Path};
use kedge_meta::{GroupKind, Reason, Status, fields, labels};
use kedge_registry::verbs::store_failure;
use kedge_registry::{Served, convert, field_of_label};
use kedge_storage::{Error as StorageError, Keyed, Listing, Matcher};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::input::request_info::RequestInfo;
use crate::output::table;

/// Upstream's continue token, which its servers on the same store read too: the version of the list, and the key to start
/// from, below what is listed.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    /// Below 0: whatever the version is then.
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
/// What a client is told whose list can no longer be gone on with as it was begun.
const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

impl Token {
    fn new(rv: i64, start: &str) -> Self {
        Self { v: TOKEN_VERSION.into(), rv, start: start.into() }
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let bad =
            |what: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {what}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| bad(&e.to_string()))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
        let start = below(&token.start).map(str::to_owned);
        match () {
            () if token.v != TOKEN_VERSION => {
                Err(bad(&format!("server does not recognize this encoded version {}", token.v)))
            }
            () if token.rv == 0 => Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
            () if token.start.is_empty() => Err(bad("encoded start key empty (version meta.k8s.io/v1)")),
            () => match start {
                Some(start) => Ok(Self { start, ..token }),
                None => Err(bad(&token.start)),
            },
        }
    }
}

/// Objects that are converted at a time to see whether they are selected.
const CONVERTED: usize = 100;

/// What a list or a watch is of.
#[derive(Default)]
pub(crate) struct Selection {
    /// What can be told from what is stored.
    pub(crate) stored: Matcher,
    /// What can be told only of an object as it is shown, since somebody has to be asked to convert it.
    pub(crate) shown: fields::Selector,
}

impl Selection {
    fn is_everything(&self) -> bool {
        self.stored.is_everything() && self.shown.is_everything()
    }
}

/// Whether an object as it is shown is selected.
pub(crate) fn selects(shown: &fields::Selector, object: &Value) -> bool {
    shown.matches(|path| {
        let value = path.split('.').try_fold(object, |value, step| value.get(step));
        match value {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            _ => String::new(),
        }
    })
}

/// The selectors of a list or watch. A name in the path selects by name.
pub(crate) fn selection(info: &RequestInfo, served: &Served) -> Result<Selection, Status> {
    let labels =
        labels::Selector::parse(info.param("labelSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
    let mut fields =
        fields::Selector::parse(info.param("fieldSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
    if !info.name.is_empty() {
        let value = info.name.clone();
        fields.requirements.push(fields::Requirement { field: "metadata.name".into(), value, equal: true });
    }
    for requirement in &mut fields.requirements {
        let known = |field: &str| served.is_selectable(field);
        let field = field_of_label(&served.info, &requirement.field, known).map_err(Status::bad_request)?.to_owned();
        requirement.field = field;
    }
    let (stored, shown) = fields
        .requirements
        .into_iter()
        .partition(|requirement| !served.waits() || requirement.field.starts_with("metadata."));
    let stored = Matcher { labels, fields: fields::Selector { requirements: stored } };
    Ok(Selection { stored, shown: fields::Selector { requirements: shown } })
}

/// How many objects an answer may have; 0 for all.
pub(crate) fn limit(info: &RequestInfo) -> Result<usize, Status> {
    match info.param("limit") {
        "" => Ok(0),
        // As upstream: who takes whatever the cache has gets all of it.
        _ if info.param("resourceVersion") == "0" => Ok(0),
        // As upstream, a limit below 0 is none.
        text => match text.parse::<i64>() {
            Ok(limit) => Ok(usize::try_from(limit).unwrap_or(0)),
            Err(_) => Err(Status::bad_request(format!("invalid limit {text:?}"))),
        },
    }
}

pub(crate) async fn select(
    info: &RequestInfo,
    served: &Served,
    scope: &str,
    selection: &Selection,
    limit: usize,
) -> Result<Listing, Status> {
    check_options(info)?;
    // How many of what is found are selected is only known when they have been looked at.
    let found = if selection.shown.is_everything() { limit } else { 0 };
    let listing = match info.param("continue").is_empty() {
        true => begin(info, served, scope, &selection.stored, (limit, found)).await,
        false => go_on(info, served, scope, &selection.stored, found).await,
    }?;
    match selection.shown.is_everything() {
        true => Ok(listing),
        false => narrow(served, listing, &selection.shown, limit).await,
    }
}

/// The first page of a list: of `limit` objects for the client, for which `found` are looked for.
async fn begin(
    info: &RequestInfo,
    served: &Served,
    scope: &str,
    matcher: &Matcher,
    (limit, found): (usize, usize),
) -> Result<Listing, Status> {
    let (text, rule) = (info.param("resourceVersion"), info.param("resourceVersionMatch"));
    // As upstream: a page at a version without a rule is one of exactly that version.
    let exact = rule == "Exact" || (rule.is_empty() && limit > 0);
    version_of(text).map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
    let version = not_older_than(served, text).await?;
    let answer = match exact && version > 0 {
        true => served.store.list_at(scope, scope, matcher, found, version).await,
        false => served.store.list(scope, matcher, found),
    };
    answer.map_err(|err| match err {
        StorageError::TooOld { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StorageError::Future { .. } => Status::too_large_version(err.to_string()),
        other => store_failure(other),
    })
}

/// Those of a list that are selected as they are shown, up to a limit.
async fn narrow(
    served: &Served,
    mut listing: Listing,
    shown: &fields::Selector,
    limit: usize,
) -> Result<Listing, Status> {
    let mut objects = std::mem::take(&mut listing.objects).into_iter();
    loop {
        let some: Vec<Keyed> = objects.by_ref().take(CONVERTED).collect();
        if some.is_empty() {
            return Ok(listing);
        }
        let stored: Vec<_> = some.iter().map(|(_, object)| object).collect();
        let values = convert::read_all(served, &stored).await?;
        let mut left = some.len() + objects.len();
        for (keyed, value) in some.into_iter().zip(values) {
            left -= 1;
            if !selects(shown, &value) {
                continue;
            }
            listing.objects.push(keyed);
            if limit > 0 && listing.objects.len() == limit {
                listing.more |= left > 0;
                return Ok(listing);
            }
        }
    }
}

/// The next page of a list.
async fn go_on(
    info: &RequestInfo,
    served: &Served,
    scope: &str,
    matcher: &Matcher,
    limit: usize,
) -> Result<Listing, Status> {
    let Token { rv, start, .. } = Token::decode(info.param("continue"))?;
    if !matches!(info.param("resourceVersion"), "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let version = match u64::try_from(rv) {
        Ok(version) => version,
        Err(_) => {
            served.store.fresh().await.map_err(store_failure)?;
            served.store.revision()
        }
    };
    let from = format!("{scope}{start}");
    served.store.list_at(scope, &from, matcher, limit, version).await.map_err(|err| match err {
        StorageError::TooOld { .. } => {
            let mut status = Status::expired(TOO_OLD);
            status.metadata.continue_ = Token::new(-1, &start).encode();
            status
        }
        other => store_failure(other),
    })
}

/// The start of a token when it is a clean path, which leads nowhere else.
fn below(start: &str) -> Option<&str> {
    let path = start.strip_prefix('/').unwrap_or(start);
    path.split('/').all(|part| !matches!(part, "" | "." | "..")).then_some(path)
}

/// The number of a version, none being 0; otherwise what upstream says of it, which it takes for a fault of its own but in lists.
pub(crate) fn version_of(version: &str) -> Result<u64, String> {
    // Go's numbers have no sign here.
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    match version.parse::<u64>() {
        _ if version.is_empty() => Ok(0),
        Ok(number) if digits => Ok(number),
        _ => {
            let why = if digits { "value out of range" } else { "invalid syntax" };
            Err(format!("resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: {why}"))
        }
    }
}

/// Waits until the cache has what a client knows to have happened, on whatever server that was: everything when it names no
/// version. Returns the version, 0 for any.
pub(crate) async fn not_older_than(served: &Served, version: &str) -> Result<u64, Status> {
    if version.is_empty() {
        served.store.fresh().await.map_err(store_failure)?;
        return Ok(0);
    }
    let requested = version_of(version).map_err(|why| Status::failure(500, Reason::Unknown, why))?;
    if requested > served.store.revision() {
        served.store.fresh().await.map_err(store_failure)?;
    }
    let current = served.store.revision();
    match requested > current {
        true => Err(store_failure(StorageError::Future { requested, current })),
        false => Ok(requested),
    }
}

/// What upstream's options of a list or a watch may not say together.
pub(crate) fn check_options(info: &RequestInfo) -> Result<(), Status> {
    let errors = if info.verb == "watch" { watch_errors(info) } else { list_errors(info) };
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&GroupKind::new("meta.k8s.io", "ListOptions"), "", &errors)),
    }
}

const MATCH: &str = "resourceVersionMatch";

fn list_errors(info: &RequestInfo) -> ErrorList {
    let (rule, version) = (info.param(MATCH), info.param("resourceVersion"));
    let forbidden = |detail: &str| field::Error::forbidden(&Path::new(MATCH), detail);
    let mut errors = ErrorList::new();
    if !rule.is_empty() && version.is_empty() {
        errors.push(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
    }
    if !rule.is_empty() && !info.param("continue").is_empty() {
        errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
    }
    if !matches!(rule, "" | "Exact" | "NotOlderThan") {
        errors.push(field::Error::not_supported_of(&Path::new(MATCH), rule, &["Exact", "NotOlderThan", ""]));
    }
    if rule == "Exact" && version == "0" {
        errors.push(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
    }
    if info.optional_flag("sendInitialEvents").is_some() {
        let path = Path::new("sendInitialEvents");
        errors.push(field::Error::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn watch_errors(info: &RequestInfo) -> ErrorList {
    let (rule, initial) = (info.param(MATCH), info.optional_flag("sendInitialEvents"));
    let forbidden = |detail: &str| field::Error::forbidden(&Path::new(MATCH), detail);
    let mut errors = ErrorList::new();
    if initial.is_some() && rule != "NotOlderThan" {
        errors.push(forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if !rule.is_empty() && initial.is_none() {
        errors.push(forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
    }
    if !matches!(rule, "" | "NotOlderThan") {
        errors.push(field::Error::not_supported(&Path::new(MATCH), rule, &["NotOlderThan"]));
    }
    // A watch from anywhere is one that begins with the state, and has that rule.
    let anywhere = initial.is_none() && matches!(info.param("resourceVersion"), "" | "0");
    if (!rule.is_empty() || anywhere) && !info.param("continue").is_empty() {
        errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
    }
    errors
}

pub(crate) fn list_meta(listing: &Listing, scope: &str, limit: usize, selection: &Selection) -> table::ListMeta {
    let mut meta = table::ListMeta::at(&listing.revision.to_string());
    if limit > 0
        && listing.more
        && let Some((last, _)) = listing.objects.last()
    {
        let version = i64::try_from(listing.revision).unwrap_or(i64::MAX);
        meta.continue_ = Token::new(version, &format!("{}\0", last.strip_prefix(scope).unwrap_or(last))).encode();
        meta.remaining_item_count = selection.is_everything().then_some(listing.remaining);
    }
    meta
}

#[cfg(test)]
#[path = "listing_tests.rs"]
pub(crate) mod tests;
