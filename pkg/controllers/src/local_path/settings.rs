//! `config.json`: which directories of which nodes hold volumes.

use serde::Deserialize;

/// The name that stands for all nodes that are not named.
pub const OTHERS: &str = "DEFAULT_PATH_FOR_NON_LISTED_NODES";

/// What is read of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    node_path_map: Vec<NodePaths>,
    shared_file_system_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodePaths {
    node: String,
    paths: Vec<String>,
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if !settings.shared_file_system_path.is_empty() {
            return Err("sharedFileSystemPath is not supported: volumes are directories of one node each".into());
        }
        let mut seen: Vec<&str> = Vec::new();
        for entry in &settings.node_path_map {
            if seen.contains(&entry.node.as_str()) {
                return Err(format!("duplicate node {}", entry.node));
            }
            seen.push(&entry.node);
            if let Some(path) = entry.paths.iter().find(|path| !path.starts_with('/')) {
                return Err(format!("path must start with / for path {path} on node {}", entry.node));
            }
            if let Some(path) = entry.paths.iter().find(|path| path.trim_matches('/').is_empty()) {
                return Err(format!("cannot use root ('/') as path on node {}: {path}", entry.node));
            }
        }
        Ok(settings)
    }

    /// The directory on `node` for what has that number: always the same for the same.
    ///
    /// # Errors
    /// When the node has none.
    pub fn path(&self, node: &str, number: u64, wanted: &str) -> Result<&str, String> {
        let entry = |name: &str| self.node_path_map.iter().find(|entry| entry.node == name);
        let Some(entry) = entry(node).or_else(|| entry(OTHERS)) else {
            return Err(format!("config doesn't contain node {node}, and no {OTHERS} available"));
        };
        let Some(count) = u64::try_from(entry.paths.len()).ok().filter(|count| *count > 0) else {
            return Err(format!("no local path available on node {node}"));
        };
        if !wanted.is_empty() {
            let found = entry.paths.iter().find(|path| path.as_str() == wanted);
            return found
                .map(String::as_str)
                .ok_or_else(|| format!("config doesn't contain path {wanted} on node {node}"));
        }
        let index = usize::try_from(number % count).unwrap_or_default();
        Ok(entry.paths.get(index).map(String::as_str).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_has_its_own_paths_or_those_of_all() {
        let text = r#"{"nodePathMap":[{"node":"DEFAULT_PATH_FOR_NON_LISTED_NODES","paths":["/opt/a","/opt/b"]},
            {"node":"n1","paths":["/data"]},{"node":"none","paths":[]}]}"#;
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.path("n1", 7, ""), Ok("/data"));
        assert_eq!((settings.path("x", 2, ""), settings.path("x", 3, "")), (Ok("/opt/a"), Ok("/opt/b")));
        assert_eq!(settings.path("x", 2, "/opt/b"), Ok("/opt/b"), "where the class says which");
        assert_eq!(settings.path("none", 0, "").unwrap_err(), "no local path available on node none");
        let nobody = Settings::parse("{}").unwrap().path("x", 0, "").unwrap_err();
        assert_eq!(nobody, "config doesn't contain node x, and no DEFAULT_PATH_FOR_NON_LISTED_NODES available");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, why) in [
            (r#"{"nodePathMap":[{"node":"a","paths":["x"]}]}"#, "path must start with /"),
            (r#"{"nodePathMap":[{"node":"a","paths":["//"]}]}"#, "cannot use root"),
            (r#"{"nodePathMap":[{"node":"a"},{"node":"a"}]}"#, "duplicate node a"),
            (r#"{"sharedFileSystemPath":"/nfs"}"#, "is not supported"),
            ("nonsense", "expected"),
        ] {
            assert!(Settings::parse(text).unwrap_err().contains(why), "{text}");
        }
    }
}
