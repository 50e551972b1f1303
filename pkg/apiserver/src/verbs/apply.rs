//! PATCH with a configuration: server-side apply.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, verbs};
use kedge_schema::decode::DecodeError;
use kedge_schema::{Limits, decode_yaml};
use serde_json::Value;

use super::registry_request;
use super::update::may_create;
use crate::body::{Body, RequestBody};
use crate::chain::Admitted;
use crate::input::negotiate::{self, Offer};
use crate::input::options::{Validation, WriteOptions};
use crate::input::request_info::RequestInfo;
use crate::output::object as get;
use crate::output::respond;
use crate::server::ApiServer;

/// What is to be applied, by whom.
pub(crate) struct Configuration {
    pub(crate) value: Value,
    pub(crate) manager: String,
    pub(crate) force: bool,
    validation: Validation,
    /// What strict decoding has against it.
    strict: Vec<String>,
}

impl Configuration {
    /// Reads the configuration of a request.
    ///
    /// # Errors
    /// 413 and 400 for a body that is none, 422 for options.
    pub(crate) async fn read(request: &http::Request<RequestBody>, info: &RequestInfo) -> Result<Self, Status> {
        let bytes = request.body().read().await?;
        let validation = WriteOptions::of(info)?.validation;
        let decoded = decode_yaml(&bytes, &Limits::default()).map_err(|err| match err {
            DecodeError::TooLarge { limit } => Status::too_large(format!("Request entity too large: limit is {limit}")),
            err => Status::bad_request(format!("error decoding YAML: {err}")),
        })?;
        if !decoded.value.is_object() && !decoded.value.is_null() {
            let kind = kedge_patch::json::json_kind(&decoded.value);
            return Err(Status::bad_request(format!(
                "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            )));
        }
        let strict = decoded.strict.iter();
        let strict = strict.map(|err| format!("error converting YAML to JSON: {err}")).collect();
        let (manager, force) = (info.param("fieldManager").to_owned(), info.optional_flag("force") == Some(true));
        Ok(Self { value: decoded.value, manager, force, validation, strict })
    }

    /// What the client is to be warned of.
    ///
    /// # Errors
    /// 400 where it does not want a warning but a refusal. That comes after what applying it says.
    pub(crate) fn warnings(&self) -> Result<Vec<String>, Status> {
        match self.validation {
            Validation::Ignore => Ok(Vec::new()),
            Validation::Warn => Ok(self.strict.clone()),
            Validation::Strict if self.strict.is_empty() => Ok(Vec::new()),
            Validation::Strict => {
                Err(Status::bad_request(format!("error strict decoding YAML: {}", self.strict.join(", "))))
            }
        }
    }
}

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let configuration = Configuration::read(&admitted.request, &admitted.info).await?;
    let request = registry_request(server, &admitted, served)?;
    let request = verbs::Request { writer: verbs::Writer::Settled, ..request };
    let transform = |old: Option<&Value>| {
        let Configuration { value, manager, force, .. } = &configuration;
        let object = verbs::apply(&request, old, value, manager, *force)?;
        configuration.warnings()?;
        if old.is_none() {
            check_new(&object, served)?;
            verbs::check_name(&object, &admitted.info.name)?;
            may_create(server, &admitted)?;
        }
        Ok(object)
    };
    let options = verbs::UpdateOptions { create: true, ..verbs::UpdateOptions::default() };
    let written = verbs::update(&request, &transform, options).await?;
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = get::show_value(server, &admitted, served, &written.object, code, accepted)?;
    respond::warn(&mut response, &[configuration.warnings()?, written.warnings].concat());
    Ok(response)
}

/// What is meant for an object that was there does not make another.
fn check_new(object: &Value, served: &Served) -> Result<(), Status> {
    let uid = object.text(&["metadata", "uid"]);
    if uid.is_empty() {
        return Ok(());
    }
    let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
    Err(Status::conflict(&served.group_resource(), object.name(), &why))
}
