//! Expressions with what upstream makes of them: `cases/*.txt`.
//!
//! A line `let <name> <type or schema> <JSON>` declares a variable, `env <version> new|stored [libraries]` begins with another environment. An
//! expression is a line that begins with `> `, continued in lines that begin with `| `; what follows is upstream's answer:
//! `: ` its type, `~ ` the estimated cost, `= ` its value, `! ` its error, `$ ` what it cost, `X ` why it does not compile, `I ` why no program
//! can be made of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use kedge_cel::decl::Decl;
use kedge_cel::{Budget, Env, EnvBuilder, Expressions, Library, Type, Value, Version};
use serde_json::Value as Json;

struct Variable {
    name: String,
    decl: Option<Arc<Decl>>,
    of: Option<Type>,
    value: Json,
}

struct Setting {
    expressions: Expressions,
    libraries: Vec<Library>,
    variables: Vec<Variable>,
}

impl Setting {
    fn env(&self) -> Env {
        let mut builder: EnvBuilder = Env::builder(self.expressions);
        for library in &self.libraries {
            builder = builder.library(*library);
        }
        for variable in &self.variables {
            builder = match (&variable.decl, &variable.of) {
                (Some(decl), _) => builder.typed_variable(&variable.name, decl),
                (None, Some(of)) => builder.variable(&variable.name, of.clone()),
                (None, None) => builder,
            };
        }
        builder.build()
    }

    fn answer(&self, env: &Env, expression: &str) -> String {
        let mut out = String::new();
        let checked = match env.check(expression) {
            Ok(checked) => checked,
            Err(errors) => return prefixed("X ", &errors.to_string()),
        };
        writeln!(out, ": {}", checked.result_type()).unwrap();
        let program = match checked.program() {
            Ok(program) => program,
            Err(errors) => return out + &prefixed("I ", &errors.to_string()),
        };
        let roots: Vec<(&str, &Decl)> =
            self.variables.iter().filter_map(|it| Some((it.name.as_str(), &**it.decl.as_ref()?))).collect();
        let cost = checked.estimate(&roots);
        writeln!(out, "~ {} {}", cost.min, cost.max).unwrap();
        let variables: Vec<(&str, Value<'_>)> = self
            .variables
            .iter()
            .map(|it| {
                let value = match &it.decl {
                    Some(decl) => Value::typed(&it.value, decl).expect("a root that fits its schema"),
                    None => Value::native(&it.value),
                };
                (it.name.as_str(), value)
            })
            .collect();
        let budget = Budget::new(u64::MAX);
        let outcome = program.run(&variables, &budget);
        match outcome.result {
            Ok(value) => out.push_str(&prefixed("= ", &value.show())),
            Err(error) => out.push_str(&prefixed("! ", &error.to_string())),
        }
        writeln!(out, "$ {}", outcome.cost).unwrap();
        out
    }
}

fn prefixed(prefix: &str, text: &str) -> String {
    text.split('\n').fold(String::new(), |mut out, line| {
        writeln!(out, "{prefix}{line}").unwrap();
        out
    })
}

fn word(text: &str) -> Type {
    match text {
        "dyn" => Type::Dyn,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "string" => Type::String,
        "bool" => Type::Bool,
        "double" => Type::Double,
        "list" => Type::list(Type::Dyn),
        "strings" => Type::list(Type::String),
        "ints" => Type::list(Type::Int),
        "map" => Type::map(Type::String, Type::Dyn),
        other => panic!("no type {other}"),
    }
}

fn variable(line: &str) -> Variable {
    let (name, rest) = line.split_once(' ').expect("a name");
    let name = name.to_owned();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Json>();
    if rest.starts_with('{') {
        let schema = values.next().unwrap().unwrap();
        let value = values.next().unwrap().unwrap();
        let root = schema.get("x-root").is_some();
        let decl = Decl::from_schema(&schema, &format!("type_{name}"), root);
        return Variable { name, decl: Some(Arc::new(decl)), of: None, value };
    }
    let (of, json) = rest.split_once(' ').expect("a type");
    Variable { name, decl: None, of: Some(word(of)), value: serde_json::from_str(json).unwrap() }
}

fn setting(line: &str, setting: &mut Setting) {
    let mut words = line.split(' ');
    let (major, minor) = words.next().unwrap().split_once('.').unwrap();
    let version = Version::new(major.parse().unwrap(), minor.parse().unwrap());
    setting.expressions = Expressions::New(version);
    setting.libraries.clear();
    for word in words {
        match word {
            "stored" => setting.expressions = Expressions::Stored,
            "new" => {}
            "bindings" => setting.libraries.push(Library::Bindings),
            "mutation" => setting.libraries.push(Library::Mutation),
            other => panic!("no library {other}"),
        }
    }
}

/// Answers all expressions of a file; gives the answers, and how many there are.
fn answers(text: &str) -> (String, usize) {
    let mut current =
        Setting { expressions: Expressions::New(Version::CURRENT), libraries: Vec::new(), variables: Vec::new() };
    let (mut out, mut count, mut env, mut open) = (String::new(), 0, None, None::<String>);
    for line in text.lines().chain([""]) {
        if let Some(more) = line.strip_prefix("| ") {
            open.as_mut().unwrap().push_str(&format!("\n{more}"));
            writeln!(out, "{line}").unwrap();
            continue;
        }
        if let Some(expression) = open.take() {
            let env = env.get_or_insert_with(|| current.env());
            out.push_str(&current.answer(env, &expression));
            count += 1;
        }
        if let Some(expression) = line.strip_prefix("> ") {
            open = Some(expression.to_owned());
            writeln!(out, "{line}").unwrap();
        } else if let Some(rest) = line.strip_prefix("let ") {
            let variable = variable(rest);
            current.variables.retain(|it| it.name != variable.name);
            current.variables.push(variable);
            env = None;
            writeln!(out, "{line}").unwrap();
        } else if let Some(rest) = line.strip_prefix("env ") {
            setting(rest, &mut current);
            env = None;
            writeln!(out, "{line}").unwrap();
        } else if line.is_empty() || line.starts_with("# ") {
            writeln!(out, "{line}").unwrap();
        }
    }
    (out, count)
}

/// The lines that differ, with the expression that they belong to.
fn difference(wanted: &str, got: &str) -> String {
    let blocks = |text: &str| -> Vec<String> { text.split("\n> ").map(str::to_owned).collect() };
    let (wanted, got) = (blocks(wanted), blocks(got));
    let mut out = String::new();
    for (wanted, got) in wanted.iter().zip(&got).filter(|(wanted, got)| wanted.trim() != got.trim()) {
        writeln!(out, "> {}\n--- but here\n> {}\n", wanted.trim(), got.trim()).unwrap();
    }
    out
}

#[test]
fn expressions_are_answered_as_upstream_answers_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let only = std::env::var("CEL_CASES").ok();
    let (mut total, mut wrong) = (0, String::new());
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        if only.as_ref().is_some_and(|only| !file.to_string_lossy().contains(only.as_str())) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let (got, count) = answers(&text);
        total += count;
        let differs = difference(&text, &got);
        if !differs.is_empty() {
            write!(wrong, "{}:\n{differs}", file.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(only.is_some() || total >= 400, "{total} expressions");
}
