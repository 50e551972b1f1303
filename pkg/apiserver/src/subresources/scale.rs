//! `scale`: replicas of a workload as `autoscaling/v1` Scale.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::subresources::scale;
use kedge_registry::verbs::ScaleOwners;
use kedge_registry::{Served, printers};
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
use crate::output::object;
use crate::server::ApiServer;

const GROUP: &str = "autoscaling";

/// The scale that a request asks for.
enum Wanted {
    Scale(Value),
    Patched(Patch),
    Applied(Configuration),
}

impl Wanted {
    async fn read(admitted: &Admitted) -> Result<Self, Status> {
        if admitted.info.applies {
            let configuration = Configuration::read(&admitted.request, &admitted.info).await?;
            return Ok(Self::Applied(configuration));
        }
        if admitted.info.verb == "patch" {
            return Ok(Self::Patched(Patch::read(&admitted.request, &admitted.info).await?));
        }
        let bytes = admitted.request.body().read().await?;
        let body = posted(admitted.request.headers(), &bytes, &admitted.info, (GROUP, "v1", "Scale"))?;
        admitted.notes.warn_all(body.warnings);
        Ok(Self::Scale(body.object))
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

    /// What the client is to be warned of, after it has been made.
    fn warnings(&self) -> Vec<String> {
        match self {
            Self::Scale(_) => Vec::new(),
            Self::Patched(patch) => patch.warnings(),
            // Where they are errors, making it has failed with them.
            Self::Applied(configuration) => configuration.warnings().unwrap_or_default(),
        }
    }
}

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::PART)?;
    let (namespace, name) = (&admitted.info.namespace, &admitted.info.name);
    let show = |object: &Value| {
        let scale = scale::scale_of(served, object)?;
        let printer = printers::of(GROUP, "scales");
        object::shaped(server, &admitted.info, &printer, &scale, StatusCode::OK, accepted)
    };
    if admitted.info.verb == "get" {
        return show(&served.get_later(namespace, name).await?);
    }
    let wanted = Wanted::read(&admitted).await?;
    let request = registry_request(server, &admitted, served)?;
    let manager = field_manager(&admitted.info, admitted.request.headers());
    let transform = |shown: &Value, owners: &ScaleOwners<'_>| wanted.of(shown, owners, &manager);
    let written = scale::update(&request, &transform).await;
    // Also when it failed afterwards.
    admitted.notes.warn_all(wanted.warnings());
    show(&written?.object)
}
