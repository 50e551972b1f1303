//! DenyServiceExternalIPs: no service takes addresses that it did not have, since who has one gets the traffic that others send there.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};

use crate::{Plugin, forbidden, writes};

pub(crate) struct DenyServiceExternalIps;

#[async_trait]
impl Plugin for DenyServiceExternalIps {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        writes(attributes, "", "services")
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let had = attributes.old.map(|old| old.list(&["spec", "externalIPs"])).unwrap_or_default();
        let wanted = attributes.object.list(&["spec", "externalIPs"]);
        if wanted.iter().all(|address| had.contains(address)) {
            return Ok(());
        }
        Err(forbidden(attributes, "Use of external IPs is denied by admission control"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;
    use serde_json::{Value, json};

    /// CVE-2020-8554: who may make services could take the traffic of any address.
    #[tokio::test]
    async fn addresses_can_be_given_up_and_not_taken() {
        let (registry, _) = testing::registry().await;
        let user = testing::user();
        let service = |addresses: &[&str]| json!({"metadata": {"name": "s"}, "spec": {"externalIPs": addresses}});
        let said = async |old: Option<&Value>, new: Value| {
            let operation = if old.is_some() { Operation::Update } else { Operation::Create };
            let mut attributes = Attributes::new(operation, testing::resource("", "services"), &user);
            (attributes.old, attributes.object) = (old, new);
            assert!(DenyServiceExternalIps.validates(&attributes));
            DenyServiceExternalIps.validate(&registry, &attributes).await.map_err(|status| status.code)
        };
        assert_eq!(said(None, service(&[])).await, Ok(()));
        assert_eq!(said(None, service(&["1.2.3.4"])).await, Err(403));
        let old = service(&["1.2.3.4", "1.2.3.5"]);
        assert_eq!(said(Some(&old), service(&["1.2.3.5"])).await, Ok(()));
        assert_eq!(said(Some(&old), service(&["1.2.3.5", "8.8.8.8"])).await, Err(403));
    }
}
