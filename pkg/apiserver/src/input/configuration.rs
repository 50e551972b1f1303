//! The body of a server-side apply.

use http::Request;
use kedge_meta::Status;
use kedge_schema::decode::DecodeError;
use kedge_schema::{Limits, decode_yaml};
use serde_json::Value;

use super::options::{Validation, WriteOptions};
use super::request_info::RequestInfo;
use crate::body::RequestBody;

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
    pub(crate) async fn read(request: &Request<RequestBody>, info: &RequestInfo) -> Result<Self, Status> {
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
