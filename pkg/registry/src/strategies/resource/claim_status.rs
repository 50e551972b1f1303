//! What became of a claim: which devices it has, who uses it, and what drivers say of the devices. What was allocated never changes; it
//! goes as a whole.

use std::collections::HashSet;

use kedge_meta::field::{Error, ErrorList, GoText};
use serde_json::{Value, json};

use super::super::validation::scheduling::sound_node_selector;
use super::super::validation::{At, Report, conditions, scalar};
use super::claim::{MAX_CONFIGURATIONS, MAX_REQUESTS, Requests, configuration, object, references};
use super::items::{self, by, itself};
use super::names::{driver, label, pool, uid};
use super::slice::bindings;
use crate::value::ValueExt;

const MAX_CONSUMERS: usize = 256;
const MAX_CONDITIONS: usize = 8;
const MAX_DATA: usize = 10 << 10;
const MAX_INTERFACE: usize = 256;
const MAX_HARDWARE_ADDRESS: usize = 128;
const MAX_ADDRESSES: usize = 16;

const RESULTS: &[&str] = &["status", "allocation", "devices", "results"];

/// What a device is known by, as upstream shows it.
fn id(device: &Value) -> String {
    let field = |name: &str| json!(device.text(&[name])).to_string();
    format!(
        "{{\"Driver\":{},\"Pool\":{},\"Device\":{},\"ShareID\":{}}}",
        field("driver"),
        field("pool"),
        field("device"),
        field("shareID")
    )
}

fn shown(id: String) -> Value {
    json!(GoText(id))
}

fn allocated(claim: &Value) -> HashSet<String> {
    claim.list(RESULTS).iter().map(id).collect()
}

/// What drivers said of devices that the claim has no more goes with them.
pub(super) fn drop_stale(new: &mut Value, old: &Value) {
    let (had, has) = (allocated(old), allocated(new));
    let gone = |device: &Value| had.contains(&id(device)) && !has.contains(&id(device));
    let Some(status) = new.get_mut("status") else { return };
    if let Some(Value::Array(devices)) = status.get_mut("devices") {
        devices.retain(|device| !gone(device));
        if devices.is_empty() {
            status.set_or_remove("devices", None);
        }
    }
}

/// The first allocated device that is accessed as an administrator.
pub(super) fn admin_granted(claim: &Value) -> Option<usize> {
    claim.list(RESULTS).iter().position(|result| result.flag(&["adminAccess"]) == Some(true))
}

pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (status, was) = (At::field(new, "status"), At::field(old, "status"));
    let reserved = status.child("reservedFor");
    items::set(&reserved, MAX_CONSUMERS, &mut errors, by("uid"), |consumer, errors| {
        for field in ["resource", "name", "uid"] {
            errors.need_text(&consumer.child(field));
        }
    });
    let known = allocated(new);
    let key = |device: &At<'_>| shown(id(device.value));
    items::set(&status.child("devices"), usize::MAX, &mut errors, key, |device, errors| {
        reported(&device, &known, errors);
    });
    let (allocation, had) = (status.child("allocation"), was.child("allocation"));
    if reserved.len() > 0 {
        let deleted = !new.text(&["metadata", "deletionTimestamp"]).is_empty();
        let old = was.child("reservedFor");
        let is_new = |consumer: &At<'_>| !old.items().any(|known| known.value == consumer.value);
        if !allocation.is_set() {
            errors.push(reserved.forbidden("may not be specified when `allocated` is not set"));
        } else if deleted && reserved.items().any(|consumer| is_new(&consumer)) {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(reserved.forbidden(why));
        }
    }
    match (allocation.is_set(), had.is_set()) {
        (true, true) => errors.immutable(&allocation, &had),
        (true, false) => {
            let spec = At::field(new, "spec").child("devices");
            allocate(&allocation, &Requests::of(&spec), &mut errors);
        }
        _ => {}
    }
    errors
}

fn allocate(at: &At<'_>, requests: &Requests<'_>, errors: &mut ErrorList) {
    let devices = at.child("devices");
    items::list(&devices.child("results"), MAX_REQUESTS, errors, |result, errors| {
        let request = result.child("request");
        requests.reference(&request, errors);
        driver(&result.child("driver"), errors);
        pool(&result.child("pool"), errors);
        label(&result.child("device"), errors);
        bindings(&result, errors);
        if result.child("shareID").is_set() {
            uid(&result.child("shareID"), errors);
        }
    });
    // Those of the class and those of the claim.
    items::list(&devices.child("config"), 2 * MAX_CONFIGURATIONS, errors, |config, errors| {
        errors.need_one_of(&config.child("source"), &["FromClaim", "FromClass"]);
        references(&config.child("requests"), requests, errors);
        configuration(&config, false, errors);
    });
    let nodes = at.child("nodeSelector");
    if nodes.is_set() {
        sound_node_selector(&nodes, errors);
    }
}

/// What a driver says of a device.
fn reported(at: &At<'_>, allocated: &HashSet<String>, errors: &mut ErrorList) {
    driver(&at.child("driver"), errors);
    pool(&at.child("pool"), errors);
    label(&at.child("device"), errors);
    if at.child("shareID").is_set() {
        uid(&at.child("shareID"), errors);
    }
    let id = id(at.value);
    if !allocated.contains(&id) {
        errors.push(Error::invalid(&at.path, shown(id), "must be an allocated device in the claim"));
    }
    let conditions = at.child("conditions");
    if conditions.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(&conditions.path, conditions.len(), MAX_CONDITIONS));
    }
    conditions::each(&conditions, errors);
    let data = at.child("data");
    if data.is_set() {
        object(&data, Some(MAX_DATA), errors);
    }
    let network = at.child("networkData");
    for (field, most) in [("interfaceName", MAX_INTERFACE), ("hardwareAddress", MAX_HARDWARE_ADDRESS)] {
        let text = network.child(field);
        if text.text().len() > most {
            errors.push(Error::too_long(&text.path, most));
        }
    }
    items::set(&network.child("ips"), MAX_ADDRESSES, errors, itself, |address, errors| {
        errors.complaints(&address, scalar::interface_address(address.text()).into_iter().collect());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(status: Value) -> Value {
        let request = json!({"name": "r", "exactly": {"deviceClassName": "c"}});
        let alternatives = json!({"name": "s", "firstAvailable": [{"name": "t", "deviceClassName": "c"}]});
        json!({"metadata": {}, "spec": {"devices": {"requests": [request, alternatives]}}, "status": status})
    }

    fn result(request: &str, device: &str) -> Value {
        json!({"request": request, "driver": "d.example.com", "pool": "p", "device": device})
    }

    fn texts(new: &Value, old: &Value) -> Vec<String> {
        validate(new, old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn devices_are_those_of_the_requests() {
        let of =
            |results: Value| texts(&claim(json!({"allocation": {"devices": {"results": results}}})), &claim(json!({})));
        assert!(of(json!([result("r", "a"), result("s/t", "b")])).is_empty());
        let unknown =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let at = "status.allocation.devices.results[0]";
        for wrong in ["q", "s/u", "r/t", "s/t/u"] {
            assert_eq!(of(json!([result(wrong, "a")])), [format!("{at}.request: Invalid value: {wrong:?}: {unknown}")]);
        }
        let mut bound = result("r", "a");
        bound.set("bindingConditions", json!(["Ready"]));
        assert_eq!(
            of(json!([bound])),
            [format!(
                "{at}.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions"
            )]
        );
    }

    #[test]
    fn what_is_allocated_stays_and_is_reserved_for_whom_it_was() {
        let allocation = json!({"devices": {"results": [result("r", "a")]}});
        let pod = |n: usize| json!({"resource": "pods", "name": format!("p{n}"), "uid": n.to_string()});
        assert_eq!(
            texts(&claim(json!({"reservedFor": [pod(1), pod(1), {}]})), &claim(json!({}))),
            [
                "status.reservedFor[2].resource: Required value",
                "status.reservedFor[2].name: Required value",
                "status.reservedFor[2].uid: Required value",
                "status.reservedFor[1]: Duplicate value: \"1\"",
                "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
            ]
        );
        let old = claim(json!({"allocation": allocation, "reservedFor": [pod(1)]}));
        let mut new = claim(json!({"allocation": allocation, "reservedFor": [pod(1), pod(2)]}));
        assert!(texts(&new, &old).is_empty());
        new["metadata"].set("deletionTimestamp", "2001-01-01T00:00:00Z");
        assert!(texts(&new, &old)[0].starts_with("status.reservedFor: Forbidden: new entries may not be added"));
        let other = claim(json!({"allocation": {"devices": {"results": [result("r", "b")]}}}));
        let said = texts(&other, &old);
        assert!(said.len() == 1 && said[0].starts_with("status.allocation: Invalid value:"), "{said:?}");
        assert!(said[0].ends_with(": field is immutable"), "{said:?}");
        assert!(texts(&claim(json!({})), &old).is_empty(), "it may go");
    }

    #[test]
    fn drivers_speak_of_allocated_devices_in_order() {
        let allocation = json!({"devices": {"results": [result("r", "a")]}});
        let of =
            |device: Value| texts(&claim(json!({"allocation": allocation, "devices": [device]})), &claim(json!({})));
        let ips = json!({"ips": ["10.0.0.1/8", "10.0.0.1"], "interfaceName": "x".repeat(257)});
        let device = json!({"driver": "d.example.com", "pool": "p", "device": "a", "networkData": ips, "data": 1});
        assert_eq!(
            of(device),
            [
                "status.devices[0].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
                "status.devices[0].networkData.ips[1]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form, (e.g. \
                 10.9.8.7/24 or 2001:db8::1/64)",
            ]
        );
        assert_eq!(
            of(json!({"driver": "d.example.com", "pool": "p", "device": "b"})),
            [
                "status.devices[0]: Invalid value: {\"Driver\":\"d.example.com\",\"Pool\":\"p\",\"Device\":\"b\",\"ShareID\":\"\"}: \
              must be an allocated device in the claim"
            ]
        );
    }

    #[test]
    fn what_was_said_of_a_device_goes_with_it() {
        let of = |devices: &[&str], said: &[&str]| {
            let results: Vec<Value> = devices.iter().map(|device| result("r", device)).collect();
            let said: Vec<Value> = said.iter().map(|device| result("r", device)).collect();
            claim(json!({"allocation": {"devices": {"results": results}}, "devices": said}))
        };
        let (old, mut new) = (of(&["a", "b"], &[]), of(&["b"], &["a", "b", "c"]));
        drop_stale(&mut new, &old);
        assert_eq!(new, of(&["b"], &["b", "c"]));
        let mut none = of(&[], &["a"]);
        drop_stale(&mut none, &old);
        assert_eq!(none.at(&["status", "devices"]), None);
    }
}
