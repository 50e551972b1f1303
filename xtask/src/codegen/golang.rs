//! A reader for the few shapes of Go source that upstream's API types are written in: type declarations, struct
//! fields with tags, embedded structs, imports. Invariant: it reads names, types and tags only, never comments.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One struct field as declared. An embedded field has `embedded` set and its type name as `name`.
#[derive(Clone, Debug)]
pub struct GoField {
    pub name: String,
    pub go_type: String,
    pub json: String,
    pub options: Vec<String>,
    pub proto: Option<u32>,
    pub embedded: bool,
}

#[derive(Clone, Debug)]
pub enum GoType {
    Struct(Vec<GoField>),
    /// A defined type over another one, with the underlying type's text.
    Defined(String),
}

/// One parsed package: its types, and what each import name stands for (the path behind `k8s.io/`).
#[derive(Clone, Debug, Default)]
pub struct Package {
    pub types: BTreeMap<String, GoType>,
    pub imports: BTreeMap<String, String>,
}

pub struct Sources {
    git_dir: PathBuf,
    root: String,
    files: Vec<String>,
    packages: BTreeMap<String, Package>,
}

impl Sources {
    pub fn open(git_dir: &Path) -> Result<Self> {
        let listing = git(git_dir, &["ls-tree", "-r", "--name-only", "HEAD"])?;
        let marker = "staging/src/k8s.io/api/core/v1/types.go";
        let probe = listing
            .lines()
            .filter(|line| line.ends_with(marker))
            .min_by_key(|line| line.len())
            .context("the git directory holds no staging/src/k8s.io/api")?;
        let root = probe.trim_end_matches("api/core/v1/types.go").to_string();
        let files = listing.lines().filter_map(|line| line.strip_prefix(&root)).map(str::to_string).collect();
        Ok(Sources { git_dir: git_dir.to_path_buf(), root, files, packages: BTreeMap::new() })
    }

    /// The package at a path below `k8s.io/`, for example `api/core/v1`.
    pub fn package(&mut self, path: &str) -> Result<&Package> {
        if !self.packages.contains_key(path) {
            let package = self.load(path)?;
            self.packages.insert(path.to_string(), package);
        }
        self.packages.get(path).context("package was just inserted")
    }

    fn load(&self, path: &str) -> Result<Package> {
        let mut package = Package::default();
        for file in &self.files {
            let Some(name) = file.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')) else { continue };
            let skipped = name.contains('/')
                || !name.ends_with(".go")
                || name.ends_with("_test.go")
                || name.ends_with("generated.pb.go")
                || name.starts_with("zz_");
            if skipped {
                continue;
            }
            let text = git(&self.git_dir, &["show", &format!("HEAD:{}{file}", self.root)])?;
            parse_file(&text, &mut package);
        }
        if package.types.is_empty() {
            bail!("no Go types in k8s.io/{path}");
        }
        Ok(package)
    }
}

fn git(dir: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("--git-dir").arg(dir).args(args).output().context("running git")?;
    if !output.status.success() {
        bail!("git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_file(text: &str, package: &mut Package) {
    let mut lines = text.lines();
    let mut in_imports = false;
    while let Some(line) = lines.next() {
        let line = strip_comment(line);
        let trimmed = line.trim();
        if trimmed == "import (" {
            in_imports = true;
        } else if in_imports && trimmed == ")" {
            in_imports = false;
        } else if in_imports || trimmed.starts_with("import ") {
            parse_import(trimmed.trim_start_matches("import "), package);
        } else if let Some(rest) = line.strip_prefix("type ") {
            let Some((name, definition)) = rest.split_once(' ') else { continue };
            let definition = definition.trim().trim_start_matches("= ");
            if definition.starts_with("struct {") && !definition.ends_with('}') {
                let fields = lines
                    .by_ref()
                    .take_while(|line| !line.starts_with('}'))
                    .filter_map(|line| parse_field(line.trim()))
                    .collect();
                package.types.insert(name.to_string(), GoType::Struct(fields));
            } else if definition.starts_with("struct") {
                package.types.insert(name.to_string(), GoType::Struct(Vec::new()));
            } else {
                package.types.insert(name.to_string(), GoType::Defined(definition.to_string()));
            }
        }
    }
}

/// Cuts a trailing line comment, leaving tags (which are quoted with backticks) alone.
fn strip_comment(line: &str) -> &str {
    let start = line.rfind('`').map_or(0, |at| at + 1);
    match line[start..].find("//") {
        Some(at) => line[..start + at].trim_end(),
        None => line,
    }
}

fn parse_import(line: &str, package: &mut Package) {
    let Some((alias, rest)) = line.split_once('"') else { return };
    let path = rest.trim_end_matches('"');
    let Some(path) = path.strip_prefix("k8s.io/") else { return };
    let alias = match alias.trim() {
        "" => path.rsplit('/').next().unwrap_or(path),
        alias => alias,
    };
    package.imports.insert(alias.to_string(), path.to_string());
}

fn parse_field(line: &str) -> Option<GoField> {
    if line.starts_with("//") {
        return None;
    }
    let (head, rest) = line.split_once('`')?;
    let (tags, _) = rest.split_once('`')?;
    let json = tag(tags, "json")?;
    let mut parts = json.split(',');
    let json = parts.next().unwrap_or_default().to_string();
    let options = parts.map(str::to_string).collect();
    let proto = tag(tags, "protobuf").and_then(|value| value.split(',').nth(1)?.parse().ok());
    let head = head.trim();
    let (name, go_type, embedded) = match head.split_once(char::is_whitespace) {
        Some((name, go_type)) => (name.to_string(), go_type.trim().to_string(), false),
        None => (head.rsplit('.').next()?.trim_start_matches('*').to_string(), head.to_string(), true),
    };
    Some(GoField { name, go_type, json, options, proto, embedded })
}

fn tag<'a>(tags: &'a str, key: &str) -> Option<&'a str> {
    let at = tags.find(&format!("{key}:\""))?;
    let rest = &tags[at + key.len() + 2..];
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_structs_embedded_fields_and_defined_types() {
        let mut package = Package::default();
        let text = "import (\n\tmetav1 \"k8s.io/apimachinery/pkg/apis/meta/v1\"\n)\n\
            type A struct {\n\tmetav1.TypeMeta `json:\",inline\"`\n\t// B is a comment `json:\"no\"`\n\
            \tB *int32 `json:\"b,omitempty\" protobuf:\"varint,7,opt,name=b\"`\n}\ntype C string // why\n";
        parse_file(text, &mut package);
        assert_eq!(package.imports["metav1"], "apimachinery/pkg/apis/meta/v1");
        let GoType::Struct(fields) = &package.types["A"] else { panic!("A is a struct") };
        assert_eq!(fields.len(), 2);
        assert!(fields[0].embedded);
        assert_eq!((fields[1].go_type.as_str(), fields[1].proto), ("*int32", Some(7)));
        assert!(matches!(&package.types["C"], GoType::Defined(text) if text == "string"));
    }
}
