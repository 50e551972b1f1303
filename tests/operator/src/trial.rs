//! The derived resource in use by a client that knows its type.

use anyhow::{Context as _, bail, ensure};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Client, Error};
use serde_json::json;

use crate::fleet::{self, Fleet, FleetSpec};

pub async fn run(client: Client) -> anyhow::Result<()> {
    fleet::define(&client).await.context("the definition")?;
    fleet::define(&client).await.context("the definition once more")?;
    let fleets: Api<Fleet> = Api::namespaced(client, "default");
    let spec = FleetSpec { ships: 2, motto: "onward".to_owned(), home: "bay".to_owned() };
    let mut made = fleets.create(&PostParams::default(), &Fleet::new("a", spec.clone())).await?;
    ensure!((made.metadata.generation, made.spec.ships, made.status.is_none()) == (Some(1), 2, true), "{made:?}");
    let many = Fleet::new("b", FleetSpec { ships: 10, ..spec });
    let status = refusal(fleets.create(&PostParams::default(), &many).await)?;
    ensure!((status.code, status.reason.as_str()) == (422, "Invalid"), "{status:?}");
    let scale = fleets.get_scale("a").await?;
    ensure!(scale.spec.as_ref().and_then(|spec| spec.replicas) == Some(2), "{scale:?}");
    let patch = Patch::Merge(json!({"spec": {"replicas": 3}}));
    fleets.patch_scale("a", &PatchParams::default(), &patch).await?;
    let listed = fleets.list(&ListParams::default().fields("spec.home=bay")).await?.items;
    ensure!(listed.iter().map(|fleet| fleet.spec.ships).eq([3]), "{listed:?}");
    let elsewhere = fleets.list(&ListParams::default().fields("spec.home=sea")).await?.items;
    ensure!(elsewhere.is_empty(), "{elsewhere:?}");
    // What was read before is not written over what is there now.
    made.spec.ships = 5;
    let status = refusal(fleets.replace("a", &PostParams::default(), &made).await)?;
    ensure!((status.code, status.reason.as_str()) == (409, "Conflict"), "{status:?}");
    Ok(())
}

/// What the server said when it refused.
fn refusal(answer: Result<Fleet, Error>) -> anyhow::Result<Box<Status>> {
    match answer {
        Ok(fleet) => bail!("not refused: {fleet:?}"),
        Err(Error::Api(status)) => Ok(status),
        Err(err) => Err(err.into()),
    }
}
