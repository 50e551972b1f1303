//! `pods/eviction`: a delete of a pod that disruption budgets may refuse.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::subresources::eviction;
use kedge_registry::{NoAdmission, Served, WriteOptions, verbs};
use serde_json::json;

use crate::admit;
use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::{self, posted};
use crate::input::negotiate::{self, Offer};
use crate::input::options;
use crate::output::respond;
use crate::server::ApiServer;

pub(crate) async fn create(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let info = &admitted.info;
    let written = options::WriteOptions::of(info)?;
    let mut body = posted(admitted.request.headers(), &bytes, info, ("policy", "v1", "Eviction"))?;
    decode::check_namespace(&mut body.object, &info.namespace)?;
    let options = eviction::delete_options(&body.object, &info.name, written.dry_run)?;
    let dry_run = options.dry_run.iter().any(|value| value == "All");
    admit::create(server, &admitted, &served.info, body.object, dry_run).await?;
    // The server deletes on its own account: who may evict need not be allowed to delete.
    let user = admit::api_server();
    let request = verbs::Request {
        registry: &server.registry,
        served,
        admission: &NoAdmission,
        user: &user,
        namespace: &info.namespace,
        name: &info.name,
        subresource: "",
        dry_run,
        options: WriteOptions::default(),
        writer: verbs::Writer::Settled,
        later: verbs::Later::default(),
        notes: admitted.notes.clone(),
    };
    eviction::evict(&request, options).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut response = respond::value(StatusCode::CREATED, &success, accepted.format)?;
    respond::warn(&mut response, &body.warnings);
    Ok(response)
}
