//! Conversion between the versions of a kind.
//!
//! A kind has one stored form, and a [`Conversion`] that leads from every version to every other. Built-in kinds convert at once;
//! a conversion that has to ask somebody hands out a future, which only the callers that can wait take: the verbs, and the bodies
//! of lists and watches.

mod autoscaler;
mod built_in;
mod later;

use kedge_base::BoxFuture;
use kedge_meta::Status;
use kedge_schema::ResourceInfo;
use kedge_storage::Object;
use serde_json::Value;

use crate::served::Served;
use crate::value::ValueExt;

pub use built_in::of as built_in;
pub use later::Later;

/// How objects of a kind become objects of another version of it.
pub trait Conversion: Send + Sync {
    /// Brings objects, each of which says what version it is, into the version `to`. What is left of them after a failure is not used.
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a>;

    /// Whether it may have to be waited for.
    fn waits(&self) -> bool {
        false
    }
}

/// What a conversion comes to.
pub enum Conversed<'a> {
    Done(Result<(), Status>),
    /// Somebody else has been asked.
    Waits(BoxFuture<'a, Result<(), Status>>),
}

/// Versions differ in nothing but their names.
pub struct Renamed;

impl Conversion for Renamed {
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a> {
        objects.iter_mut().for_each(|object| object.set("apiVersion", to));
        Conversed::Done(Ok(()))
    }
}

/// The object as `served` shows it.
///
/// # Errors
/// 500 when what is stored cannot be read, or would have to be waited for.
pub fn read(served: &Served, object: &Object) -> Result<Value, Status> {
    let mut value = object.to_value().map_err(Status::internal)?;
    if !served.shows(object) {
        at_once(&*served.conversion, &served.info, &mut value)?;
    }
    Ok(value)
}

/// The same, and it may be waited for.
///
/// # Errors
/// As [`read`], and what the conversion says.
pub async fn read_later(served: &Served, object: &Object) -> Result<Value, Status> {
    let mut value = object.to_value().map_err(Status::internal)?;
    if !served.shows(object) {
        shown(served, std::slice::from_mut(&mut value)).await?;
    }
    Ok(value)
}

/// Several objects as `served` shows them, in one step.
///
/// # Errors
/// As [`read_later`].
pub async fn read_all(served: &Served, objects: &[impl AsRef<Object>]) -> Result<Vec<Value>, Status> {
    let values: Result<Vec<Value>, _> = objects.iter().map(|object| object.as_ref().to_value()).collect();
    let mut values = values.map_err(Status::internal)?;
    if objects.iter().any(|object| !served.shows(object.as_ref())) {
        shown(served, &mut values).await?;
    }
    Ok(values)
}

/// Brings objects of another version of a kind into the one that `served` shows.
///
/// # Errors
/// What the conversion says.
pub async fn shown(served: &Served, values: &mut [Value]) -> Result<(), Status> {
    convert(&*served.conversion, values, &served.info.api_version()).await?;
    values.iter_mut().for_each(|value| served.info.schema.normalize(value));
    Ok(())
}

/// Brings an object into a version of its kind.
///
/// # Errors
/// When the conversion fails, or would have to be waited for.
pub fn at_once(conversion: &dyn Conversion, to: &ResourceInfo, value: &mut Value) -> Result<(), Status> {
    match conversion.convert(std::slice::from_mut(value), &to.api_version()) {
        Conversed::Done(done) => done?,
        Conversed::Waits(_) => return Err(Status::internal(format!("{} cannot be converted here", to.plural))),
    }
    to.schema.normalize(value);
    Ok(())
}

async fn convert(conversion: &dyn Conversion, values: &mut [Value], to: &str) -> Result<(), Status> {
    match conversion.convert(values, to) {
        Conversed::Done(done) => done,
        Conversed::Waits(waits) => waits.await,
    }
}

/// From the served to the stored version.
///
/// # Errors
/// What the conversion says.
pub(crate) async fn to_storage(served: &Served, value: &mut Value) -> Result<(), Status> {
    let info = &served.info;
    let stored = kedge_meta::GroupVersion::new(&info.storage_group, &info.storage_version).to_string();
    convert(&*served.conversion, std::slice::from_mut(value), &stored).await?;
    // The versions differ in what they write when it is empty.
    if let Some(ty) = kedge_schema::kind(&info.storage_group, &info.storage_version, &info.kind) {
        kedge_schema::normalize(ty, value);
    }
    Ok(())
}
