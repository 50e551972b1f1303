//! `cargo xtask codegen`: turns upstream's published OpenAPI documents, discovery documents and the JSON tags of
//! its Go types into the compact fact table of `kedge-schema`. Invariant: only facts are written, never prose, and
//! the same inputs always give the same bytes, so that `--check` can compare.

mod golang;
mod resources;
mod types;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

const OUTPUT: &str = "pkg/schema/src/generated/facts.txt";

struct Options {
    input: PathBuf,
    go_types: Option<PathBuf>,
    check: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Options { input: PathBuf::from("../shared/kubernetes-1.36"), go_types: None, check: false };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match arg.as_str() {
                "--check" => options.check = true,
                "--input" => options.input = PathBuf::from(rest.next().context("--input needs a directory")?),
                "--go-types" => {
                    options.go_types = Some(PathBuf::from(rest.next().context("--go-types needs a git directory")?));
                }
                other => bail!("unknown argument {other:?}; known: --check, --input <dir>, --go-types <git dir>"),
            }
        }
        Ok(options)
    }
}

/// Entry point of the subcommand. `--input` names the directory with `openapi-spec/v3` and `discovery`, `--go-types`
/// a git directory that holds upstream's `staging/src/k8s.io` somewhere in its HEAD.
pub fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    if !options.input.is_dir() {
        println!("codegen: {} is absent, nothing to do", options.input.display());
        return Ok(());
    }
    let Some(go_types) = options.go_types.as_deref() else {
        println!("codegen: no --go-types given; the presence facts come from there, nothing to do");
        return Ok(());
    };
    let facts = generate(&options.input, go_types)?;
    let output = Path::new(OUTPUT);
    if options.check {
        let current = std::fs::read_to_string(output).with_context(|| format!("reading {OUTPUT}"))?;
        if current != facts {
            bail!("{OUTPUT} is not what codegen writes; run `cargo xtask codegen`");
        }
        println!("codegen: {OUTPUT} is current");
        return Ok(());
    }
    std::fs::create_dir_all(output.parent().context("output has no parent")?)?;
    std::fs::write(output, &facts).with_context(|| format!("writing {OUTPUT}"))?;
    println!("codegen: wrote {} bytes to {OUTPUT}", facts.len());
    Ok(())
}

fn generate(input: &Path, go_types: &Path) -> Result<String> {
    let table = resources::read(&input.join("discovery"))?;
    let mut go = golang::Sources::open(go_types)?;
    let mut out = String::from(
        "# Facts about the built-in API of Kubernetes 1.36. Written by `cargo xtask codegen`; the format is described in\n\
         # pkg/schema/src/table/parse.rs.\n",
    );
    resources::write(&table, &mut out)?;
    types::write(&input.join("openapi-spec/v3"), &table, &mut go, &mut out)?;
    Ok(out)
}

fn read_json(path: &Path) -> Result<serde_json::Value> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))
}
