//! What fuzz targets do with their bytes: they use the product's crates as its server does, with the same limits, and look at
//! more than whether something panics: what was read is written and read again, laws hold, budgets and limits are kept.
//!
//! `cargo xtask fuzz` runs them. Each target is a program of a few lines in `targets/`; the layout is that of cargo-fuzz, with which they can
//! be run as well. Seeds are made from what the repository has: encoders, examples of tests, manifests.

pub mod access;
pub mod bodies;
mod disk;
pub mod dns;
pub mod etcd;
pub mod expressions;
pub mod frames;
mod input;
pub mod network;
pub mod objects;
pub mod ownership;
pub mod patches;
pub mod scalars;
pub mod schemas;
pub mod seeds;
pub mod selectors;
pub mod stored;

/// A target: what it does with an input, and what it begins with.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, under the names of their programs.
pub const TARGETS: &[Target] = &[
    Target { name: "json_body", run: bodies::json, seeds: seeds::bodies_json },
    Target { name: "yaml_body", run: bodies::yaml, seeds: seeds::bodies_yaml },
    Target { name: "protobuf_body", run: bodies::protobuf, seeds: seeds::bodies_protobuf },
    Target { name: "stored_definition", run: bodies::stored_definition, seeds: seeds::definitions },
    Target { name: "json_patch", run: patches::json_patch, seeds: seeds::json_patches },
    Target { name: "merge_patch", run: patches::merge_patch, seeds: seeds::merge_patches },
    Target { name: "strategic_merge_patch", run: patches::strategic_merge_patch, seeds: seeds::strategic_patches },
    Target { name: "fields_v1", run: ownership::fields_v1, seeds: seeds::field_sets },
    Target { name: "apply", run: ownership::apply, seeds: seeds::applies },
    Target { name: "comparison", run: ownership::comparison, seeds: seeds::comparisons },
    Target { name: "label_selector", run: selectors::label_selector, seeds: seeds::label_selectors },
    Target { name: "field_selector", run: selectors::field_selector, seeds: seeds::field_selectors },
    Target { name: "json_path", run: selectors::json_path, seeds: seeds::json_paths },
    Target { name: "scalar", run: scalars::scalar, seeds: seeds::scalars },
    Target { name: "regular_expression", run: scalars::regular_expression, seeds: seeds::patterns },
    Target { name: "cel", run: expressions::cel, seeds: seeds::expressions },
    Target { name: "structural_schema", run: schemas::structural_schema, seeds: seeds::schemas },
    Target { name: "object", run: objects::object, seeds: seeds::objects },
    Target { name: "spdy", run: frames::spdy, seeds: seeds::spdy },
    Target { name: "spdy_headers", run: frames::spdy_headers, seeds: seeds::spdy_headers },
    Target { name: "websocket", run: frames::websocket, seeds: seeds::websocket },
    Target { name: "dns_query", run: dns::query, seeds: seeds::dns_queries },
    Target { name: "dns_answer", run: dns::answer, seeds: seeds::dns_answers },
    Target { name: "packed_value", run: stored::packed_value, seeds: seeds::packed },
    Target { name: "log", run: stored::log, seeds: seeds::logs },
    Target { name: "snapshot", run: stored::snapshot, seeds: seeds::snapshots },
    Target { name: "etcd_message", run: etcd::message, seeds: seeds::etcd_messages },
    Target { name: "kubeconfig", run: access::kubeconfig, seeds: seeds::kubeconfigs },
    Target { name: "token", run: access::token, seeds: seeds::tokens },
    Target { name: "cni", run: network::cni, seeds: seeds::cni },
];

/// Names a directory, for a target that shall write there what it begins with and do nothing else.
const SEEDS: &str = "KEDGE_FUZZ_SEEDS";

/// What a target does before its first input.
pub fn begin(name: &str) {
    let (Some(dir), Some(target)) = (std::env::var_os(SEEDS), TARGETS.iter().find(|target| target.name == name)) else {
        return;
    };
    let dir = std::path::Path::new(&dir);
    let write = || {
        std::fs::create_dir_all(dir)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number:04}")), seed)?;
        }
        std::io::Result::Ok(())
    };
    if let Err(err) = write() {
        eprintln!("{}: {err}", dir.display());
        std::process::exit(1);
    }
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    /// Seeds that a target does not get along with would only say so when it is run.
    #[test]
    fn targets_take_their_seeds() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in seeds {
                (target.run)(&seed);
            }
        }
    }
}
