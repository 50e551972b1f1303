//! Entries of `metadata.managedFields`: who owns which fields.
//!
//! Invariant: entries of one list differ in who they are for, and are in upstream's order when they are written.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::codec::{self, FieldsError};
use crate::set::Set;

/// How somebody came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields: all but their names and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    /// Of the fields, and for updates also of the manager: one that applies is the same in all versions.
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
}

impl Manager {
    fn is(&self, other: &Self) -> bool {
        let versions = self.operation == Operation::Apply || self.api_version == other.api_version;
        versions
            && self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
    }

    /// Upstream sorts managers by their JSON.
    pub(crate) fn sort_key(&self) -> String {
        let version = match self.operation {
            Operation::Apply => "",
            Operation::Update => &self.api_version,
        };
        let fields = [
            ("manager", &*self.name),
            ("operation", self.operation.as_str()),
            ("apiVersion", version),
            ("subresource", &self.subresource),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let fields: Vec<String> = fields.map(|(name, value)| format!("\"{name}\":{}", Value::from(value))).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// As conflicts name it.
impl std::fmt::Display for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// What somebody owns.
#[derive(Clone, Debug)]
pub struct Entry {
    pub manager: Manager,
    /// RFC 3339 in UTC, to seconds.
    pub time: Option<String>,
    pub(crate) fields: Fields,
}

/// A set that is read when it is needed.
#[derive(Clone, Debug)]
pub(crate) enum Fields {
    Encoded(Value),
    Set(Set),
}

impl Entry {
    pub(crate) fn new(manager: Manager, time: Option<String>, set: Set) -> Self {
        Self { manager, time, fields: Fields::Set(set) }
    }

    /// What is owned.
    ///
    /// # Errors
    /// When it has not been read and cannot be.
    pub(crate) fn set(&mut self) -> Result<&mut Set, FieldsError> {
        if let Fields::Encoded(value) = &self.fields {
            self.fields = Fields::Set(codec::decode(value)?);
        }
        match &mut self.fields {
            Fields::Set(set) => Ok(set),
            Fields::Encoded(_) => Err(FieldsError::NotAnObject),
        }
    }

    pub(crate) fn take_set(&mut self) -> Result<Set, FieldsError> {
        self.set().map(std::mem::take)
    }

    /// Whether something of the set is owned. Reads nothing for it.
    pub(crate) fn touches(&self, set: &Set) -> bool {
        match &self.fields {
            Fields::Encoded(value) => codec::touches(value, set),
            Fields::Set(own) => !own.intersection(set).is_empty(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.fields, Fields::Set(set) if set.is_empty())
    }

    fn encode(self) -> Value {
        let mut out = Map::new();
        let Manager { name, operation, api_version, subresource } = self.manager;
        let mut put = |field: &str, value: Value| out.insert(field.to_owned(), value);
        put("apiVersion", api_version.into());
        put("fieldsType", "FieldsV1".into());
        put(
            "fieldsV1",
            match self.fields {
                Fields::Encoded(value) => value,
                Fields::Set(set) => codec::encode(&set),
            },
        );
        put("operation", operation.as_str().into());
        if !name.is_empty() {
            put("manager", name.into());
        }
        if !subresource.is_empty() {
            put("subresource", subresource.into());
        }
        if let Some(time) = self.time {
            put("time", time.into());
        }
        Value::Object(out)
    }
}

/// An entry that makes no sense, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    NoVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    FieldsType(usize, String),
    #[error("error decoding set: {0}")]
    Fields(#[from] FieldsError),
    #[error("there are more than {MOST} of them")]
    TooMany,
}

/// Entries of one object. Those that update become few by themselves, and nobody has so many that apply; each costs those after it.
const MOST: usize = 1_000;

/// Who owns what of an object.
#[derive(Clone, Debug, Default)]
pub struct Managed(pub(crate) Vec<Entry>);

impl Managed {
    /// Reads `metadata.managedFields`.
    ///
    /// # Errors
    /// The first entry that makes no sense.
    pub fn decode(list: Option<&Value>) -> Result<Self, EntryError> {
        let mut managed = Self::trusted(list)?;
        managed.0.iter_mut().try_for_each(|entry| entry.set().map(drop))?;
        Ok(managed)
    }

    /// Reads what was written by this server or one like it: the sets are not looked at until they are needed.
    pub(crate) fn trusted(list: Option<&Value>) -> Result<Self, EntryError> {
        let mut managed = Self::default();
        if list.and_then(Value::as_array).is_some_and(|list| list.len() > MOST) {
            return Err(EntryError::TooMany);
        }
        for (at, entry) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let entry = decode(at, entry)?;
            match managed.find(&entry.manager) {
                Some(same) => managed.0[same] = entry,
                None => managed.0.push(entry),
            }
        }
        Ok(managed)
    }

    pub(crate) fn find(&self, manager: &Manager) -> Option<usize> {
        self.0.iter().position(|entry| entry.manager.is(manager))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops who owns nothing any more.
    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|entry| !entry.is_empty());
    }

    /// Writes `metadata.managedFields`. None if nobody owns anything.
    pub fn encode(mut self) -> Option<Value> {
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_by(order);
        Some(Value::Array(self.0.into_iter().map(Entry::encode).collect()))
    }
}

/// Those that apply come first, then by time and name. Times are of one form, so that they sort as they are.
fn order(a: &Entry, b: &Entry) -> Ordering {
    let key = |entry: &Entry| (entry.manager.operation, entry.time.clone().unwrap_or_default());
    let names = |entry: &Entry| {
        let Manager { name, api_version, subresource, .. } = &entry.manager;
        (name.clone(), api_version.clone(), subresource.clone())
    };
    key(a).cmp(&key(b)).then_with(|| names(a).cmp(&names(b)))
}

fn decode(at: usize, entry: &Value) -> Result<Entry, EntryError> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(EntryError::Operation),
    };
    if text("apiVersion").is_empty() {
        return Err(EntryError::NoVersion);
    }
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(EntryError::NoFieldsType(at)),
        other => return Err(EntryError::FieldsType(at, other.to_owned())),
    }
    let owned = |field: &str| text(field).to_owned();
    let manager = Manager {
        name: owned("manager"),
        operation,
        api_version: owned("apiVersion"),
        subresource: owned("subresource"),
    };
    let time = Some(owned("time")).filter(|time| !time.is_empty());
    let fields = match entry.get("fieldsV1") {
        None => Fields::Set(Set::default()),
        Some(value) => Fields::Encoded(value.clone()),
    };
    Ok(Entry { manager, time, fields })
}

/// Whether a list says that nobody shall own anything: it has one entry that says nothing, or none at all.
pub fn is_reset(list: Option<&Value>) -> bool {
    match list.and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}
