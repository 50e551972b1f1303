//! `scale`: replicas of a workload as `autoscaling/v1` Scale.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::Served;
use kedge_registry::subresources::scale;
use kedge_registry::verbs::ScaleOwners;
use kedge_schema::SchemaRef;
use serde_json::Value;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::configuration::Configuration;
use crate::input::decode::posted;
use crate::input::negotiate::{self, Offer};
use crate::input::options::field_manager;
use crate::input::patch::{Patch, Target};
use crate::objects::registry_request;
use crate::output::respond;
use crate::server::ApiServer;

const GROUP: &str = "autoscaling";

/// The scale that a request asks for.
enum Wanted {
    Scale(Value),
    Patched(Patch),
    Applied(Configuration),
}

impl Wanted {
    async fn read(admitted: &Admitted) -> Result<(Self, Vec<String>), Status> {
        if admitted.info.applies {
            let configuration = Configuration::read(&admitted.request, &admitted.info).await?;
            return Ok((Self::Applied(configuration), Vec::new()));
        }
        if admitted.info.verb == "patch" {
            return Ok((Self::Patched(Patch::read(&admitted.request, &admitted.info).await?), Vec::new()));
        }
        let bytes = admitted.request.body().read().await?;
        let body = posted(admitted.request.headers(), &bytes, &admitted.info, (GROUP, "v1", "Scale"))?;
        Ok((Self::Scale(body.object), body.warnings))
    }

    /// What it is, given what it is now, with its owners.
    fn of(&self, current: &Value, owners: &ScaleOwners<'_>, manager: &str) -> Result<Value, Status> {
        let mut scale = match self {
            Self::Scale(scale) => scale.clone(),
            Self::Patched(patch) => {
                let schema = SchemaRef::builtin_kind(GROUP, "v1", "Scale");
                let target = Target { group: GROUP, version: "v1", kind: "Scale", schema, resource: None };
                patch.transform(current, &target)?
            }
            Self::Applied(configuration) => {
                let Configuration { value, manager, force, .. } = configuration;
                let scale = owners.apply(current, value, manager, *force)?;
                configuration.warnings()?;
                return Ok(scale);
            }
        };
        owners.written(current, &mut scale, manager);
        Ok(scale)
    }
}

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    let (namespace, name) = (&admitted.info.namespace, &admitted.info.name);
    if admitted.info.verb == "get" {
        let current = scale::scale_of(served, &served.get_later(namespace, name).await?)?;
        return respond::value(StatusCode::OK, &current, accepted.format);
    }
    let (wanted, mut warnings) = Wanted::read(&admitted).await?;
    let request = registry_request(server, &admitted, served)?;
    let manager = field_manager(&admitted.info, admitted.request.headers());
    let transform = |shown: &Value, owners: &ScaleOwners<'_>| wanted.of(shown, owners, &manager);
    let written = scale::update(&request, &transform).await?;
    match &wanted {
        Wanted::Scale(_) => {}
        Wanted::Patched(patch) => warnings = patch.warnings(),
        Wanted::Applied(configuration) => warnings = configuration.warnings()?,
    }
    let mut response = respond::value(StatusCode::OK, &scale::scale_of(served, &written.object)?, accepted.format)?;
    respond::warn(&mut response, &[warnings, written.warnings].concat());
    Ok(response)
}
