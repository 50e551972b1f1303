//! How another server describes what it serves.

use std::sync::Arc;
use std::time::Duration;

use kedge_registry::OpenApiV2;
use kedge_schema::openapi;
use serde_json::Value;

use super::Aggregation;
use super::ask::Question;
use super::service::ApiService;

const WITHIN: Duration = Duration::from_secs(60);
/// An index has at most this many bytes.
const INDEX: usize = 1 << 20;
/// A document of OpenAPI v2 about everything that a server serves has at most this many bytes, and what is kept of it this many.
const DOCUMENT: usize = 8 << 20;
const KEPT: usize = 4 << 20;
const LONGEST_PLACE: usize = 1_024;
const ASKER: &str = "system:aggregator";

impl Aggregation {
    /// Where the OpenAPI v3 document of an API service is; none when it has none.
    ///
    /// # Errors
    /// Why that cannot be found out.
    pub(super) async fn open_api_v3(&self, service: &ApiService) -> Result<Option<String>, String> {
        let question = Question {
            user: ASKER,
            path: "/openapi/v3",
            accept: "application/json",
            known: None,
            limit: Some(INDEX),
            within: WITHIN,
        };
        let answer = self.ask(service, question).await.map_err(|err| err.to_string())?;
        match answer.code.as_u16() {
            200 => {}
            404 => return Ok(None),
            code => return Err(format!("/openapi/v3 is answered with {code}")),
        }
        let index: Value = serde_json::from_slice(&answer.body).map_err(|err| err.to_string())?;
        let name = format!("apis/{}/{}", service.spec.group, service.spec.version);
        let place = index["paths"][&name]["serverRelativeURL"].as_str();
        // Clients ask for it here: it leads to no other document.
        let own = format!("/openapi/v3/{name}");
        let is_own = |place: &&str| {
            let rest = place.strip_prefix(&own);
            place.len() <= LONGEST_PLACE && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('?'))
        };
        Ok(place.filter(is_own).map(str::to_owned))
    }

    /// What its OpenAPI v2 document says of an API service, and its tag; nothing new when it has that still.
    ///
    /// # Errors
    /// Why that cannot be found out.
    pub(super) async fn open_api_v2(&self, service: &ApiService, known: Option<&str>) -> Result<Found, String> {
        let question = Question {
            user: ASKER,
            path: "/openapi/v2",
            accept: "application/json",
            known,
            limit: Some(DOCUMENT),
            within: WITHIN,
        };
        let answer = self.ask(service, question).await.map_err(|err| err.to_string())?;
        match answer.code.as_u16() {
            200 => {}
            304 => return Ok(Found::Same),
            404 => return Ok(Found::None),
            code => return Err(format!("/openapi/v2 is answered with {code}")),
        }
        let prefix = format!("/apis/{}/{}/", service.spec.group, service.spec.version);
        let part = openapi::part_of_v2(&answer.body, &prefix).map_err(|err| err.to_string())?;
        if part.len() > KEPT {
            return Err(format!("its OpenAPI v2 document has more than {KEPT} bytes"));
        }
        Ok(Found::Document(Arc::new(OpenApiV2 { json: part }), answer.tag()))
    }
}

/// What became of the search for an OpenAPI v2 document.
pub(super) enum Found {
    None,
    Same,
    Document(Arc<OpenApiV2>, Option<String>),
}
