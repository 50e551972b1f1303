//! Endpoints and endpoint slices.

use serde_json::{Value, json};

use super::row::{Row, first, or, printed};
use super::{AGE, NAME, Printer, text};
use crate::value::ValueExt;

/// How many addresses or ports are shown.
const SHOWN: usize = 3;

pub(super) static ENDPOINTS: Printer =
    Printer { columns: &[NAME, text("Endpoints"), AGE], cells: |row| vec![row.name(), json!(subsets(row)), row.age()] };

fn subsets(row: &Row<'_>) -> String {
    let mut all = Vec::new();
    for subset in row.list(&["subsets"]) {
        let addresses = || subset.list(&["addresses"]).iter().map(|address| address.text(&["ip"]));
        let ports = subset.list(&["ports"]);
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let number = port.int(&["port"]).unwrap_or_default();
            all.extend(addresses().map(|ip| join_host_port(ip, number)));
        }
    }
    if row.list(&["subsets"]).is_empty() { "<none>".into() } else { first(&all, SHOWN, ",") }
}

fn join_host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub(super) static SLICE: Printer = Printer {
    columns: &[NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE],
    cells: |row| {
        let port = |port: &Value| match port.int(&["port"]) {
            Some(number) => number.to_string(),
            None => printed(port.at(&["name"]), "*"),
        };
        let ports: Vec<_> = row.list(&["ports"]).iter().map(port).collect();
        let addresses = row.list(&["endpoints"]).iter().flat_map(|endpoint| endpoint.list(&["addresses"]));
        let addresses: Vec<_> = addresses.filter_map(|address| address.as_str().map(str::to_owned)).collect();
        let cell = |list: &[String]| json!(or(&first(list, SHOWN, ","), "<unset>"));
        vec![row.name(), row.text_or(&["addressType"], ""), cell(&ports), cell(&addresses), row.age()]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_addresses_are_shown() {
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}], "ports": [{"port": 1}, {"port": 2}]}]});
        let cells = ENDPOINTS.row(&endpoints, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[1], "1.1.1.1:1,[::1]:1,1.1.1.1:2 + 1 more...");
        let slice = json!({"ports": [{"port": 80}, {"name": "x"}, {}], "endpoints": []});
        assert_eq!(SLICE.row(&slice, jiff::Timestamp::UNIX_EPOCH)[2..4], [json!("80,x,*"), json!("<unset>")]);
    }
}
