//! The controller: fleets are reconciled into a config map with their orders and a deployment of their ships.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Error as FinalizerError, Event as Finalizer, finalizer};
use kube::runtime::{wait, watcher};
use kube::{Client, CustomResource, CustomResourceExt as _, Resource as _, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What it writes as.
const MANAGER: &str = "fleet-operator";
const FINALIZER: &str = "operators.example.com/farewell";
/// The config map in which each fleet that went is noted, with its uid.
const FAREWELLS: &str = "farewells";
/// The annotation of a deployment that says which generation of its fleet it is of.
const GENERATION: &str = "operators.example.com/generation";

/// What a fleet should be.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "operators.example.com",
    version = "v1",
    kind = "Fleet",
    namespaced,
    status = "FleetStatus",
    shortname = "fl",
    category = "all",
    selectable = ".spec.home",
    scale(spec_replicas_path = ".spec.ships", status_replicas_path = ".status.ships"),
    printcolumn(name = "Ships", type_ = "integer", json_path = ".spec.ships"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status")
)]
#[serde(rename_all = "camelCase")]
pub struct FleetSpec {
    /// How many ships there are.
    #[schemars(range(min = 0, max = 9))]
    pub ships: i32,
    /// What they are told.
    pub motto: String,
    /// Where they belong.
    #[serde(default = "home")]
    pub home: String,
}

fn home() -> String {
    "harbour".to_owned()
}

/// What a fleet is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    pub observed_generation: Option<i64>,
    pub ships: Option<i32>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API: {0}")]
    Api(#[from] kube::Error),
    #[error("waiting: {0}")]
    Wait(#[from] wait::Error),
    #[error("the finalizer: {0}")]
    Finalizer(#[source] Box<FinalizerError<Self>>),
    #[error("a fleet has no {0}")]
    Without(&'static str),
}

struct Context {
    client: Client,
    recorder: Recorder,
}

/// Writes the definition, and returns when fleets can be made.
pub async fn define(client: &Client) -> Result<(), Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let parameters = PatchParams::apply(MANAGER).force();
    definitions.patch(Fleet::crd_name(), &parameters, &Patch::Apply(Fleet::crd())).await?;
    wait::await_condition(definitions, Fleet::crd_name(), wait::conditions::is_crd_established()).await?;
    Ok(())
}

/// Reconciles for as long as it is polled.
pub async fn run(client: Client, identity: String) {
    let fleets: Api<Fleet> = Api::all(client.clone());
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity) };
    let context = Arc::new(Context { recorder: Recorder::new(client.clone(), reporter), client: client.clone() });
    Controller::new(fleets, watcher::Config::default())
        .owns(Api::<ConfigMap>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Deployment>::all(client), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), context)
        .for_each(|outcome| async move {
            match outcome {
                Ok((fleet, _)) => tracing::info!("reconciled {}", fleet.name),
                Err(err) => tracing::info!("{err}"),
            }
        })
        .await;
}

async fn reconcile(fleet: Arc<Fleet>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = fleet.namespace().ok_or(Error::Without("namespace"))?;
    let fleets: Api<Fleet> = Api::namespaced(context.client.clone(), &namespace);
    let done = finalizer(&fleets, FINALIZER, fleet, |event| async {
        match event {
            Finalizer::Apply(fleet) => apply(&fleet, &namespace, &context).await,
            Finalizer::Cleanup(fleet) => say_farewell(&fleet, &namespace, &context).await,
        }
    });
    done.await.map_err(|err| Error::Finalizer(Box::new(err)))
}

/// Makes the children what they should be, and says so.
async fn apply(fleet: &Fleet, namespace: &str, context: &Context) -> Result<Action, Error> {
    let name = fleet.name_any();
    let owner = fleet.controller_owner_ref(&()).ok_or(Error::Without("uid"))?;
    let generation = fleet.metadata.generation.ok_or(Error::Without("generation"))?;
    let parameters = PatchParams::apply(MANAGER).force();
    let orders = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"motto": fleet.spec.motto},
        "metadata": {"name": name, "ownerReferences": [owner]}});
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    config_maps.patch(&name, &parameters, &Patch::Apply(orders)).await?;
    let labels = BTreeMap::from([("fleet", &name)]);
    let ships = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "ownerReferences": [owner], "annotations": {GENERATION: generation.to_string()}},
        "spec": {"replicas": fleet.spec.ships, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "ship", "image": "ship.invalid/ship:1"}]}}}});
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), namespace);
    let deployment = deployments.patch(&name, &parameters, &Patch::Apply(ships)).await?;
    let there = deployment.status.and_then(|status| status.replicas).unwrap_or_default();
    set_status(fleet, namespace, generation, there, context).await?;
    Ok(Action::await_change())
}

/// Writes the status by server-side apply. A transition has the time of the first one who saw it.
async fn set_status(
    fleet: &Fleet,
    namespace: &str,
    generation: i64,
    ships: i32,
    context: &Context,
) -> Result<(), Error> {
    let is_ready = ships == fleet.spec.ships;
    let before = fleet.status.as_ref().and_then(|status| status.conditions.first());
    let value = if is_ready { "True" } else { "False" };
    let unchanged = before.filter(|condition| condition.status == value);
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: value.to_owned(),
        reason: if is_ready { "Complete" } else { "Incomplete" }.to_owned(),
        message: format!("{ships} of {} ships", fleet.spec.ships),
        observed_generation: Some(generation),
        last_transition_time: unchanged
            .map_or_else(|| Time(jiff::Timestamp::now()), |condition| condition.last_transition_time.clone()),
    };
    let status = FleetStatus { observed_generation: Some(generation), ships: Some(ships), conditions: vec![condition] };
    let patch = json!({"apiVersion": "operators.example.com/v1", "kind": "Fleet", "status": status});
    let fleets: Api<Fleet> = Api::namespaced(context.client.clone(), namespace);
    fleets.patch_status(&fleet.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await?;
    if is_ready && unchanged.is_none() {
        let event = Event {
            type_: EventType::Normal,
            reason: "Complete".to_owned(),
            note: Some(format!("all {ships} ships are there")),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        context.recorder.publish(&event, &fleet.object_ref(&())).await?;
    }
    Ok(())
}

/// Notes that a fleet goes. That may be done again.
async fn say_farewell(fleet: &Fleet, namespace: &str, context: &Context) -> Result<Action, Error> {
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let note = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": FAREWELLS}, "data": {fleet.name_any(): fleet.uid()}});
    // A manager of its own for each, so that none takes away what another has noted.
    let parameters = PatchParams::apply(&format!("{MANAGER}-{}", fleet.name_any())).force();
    config_maps.patch(FAREWELLS, &parameters, &Patch::Apply(note)).await?;
    Ok(Action::await_change())
}
