//! Environments: what an expression may use.
//!
//! Invariants: an environment never changes, and is cheap to clone; what a version of Kubernetes brings is made once and shared.

mod validate;
mod version;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::check::{CheckedAst, check};
use crate::cost::{CostEstimate, SizeHints, estimate};
use crate::functions::{Function, Functions};
use crate::library;
use crate::parser::{self, Syntax};
use crate::program::{Program, plan};
use crate::source::CompileErrors;
use crate::types::decl::Decl;
use crate::types::{Provider, Type};
pub use version::{Expressions, Version};

/// What a version brings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Base {
    functions: Functions,
    syntax: Syntax,
    /// `1 < 1.5`: numbers of different kinds are ordered.
    cross_type: bool,
    /// Literals are looked at when an expression is compiled.
    validated: bool,
    formats_validated: bool,
    optional_type: bool,
    addresses: bool,
    keywords_as_fields: bool,
}

#[derive(Debug)]
pub(crate) struct EnvInner {
    base: Arc<Base>,
    variables: HashMap<Arc<str>, Type>,
    provider: Provider,
}

/// What expressions are compiled in.
#[derive(Debug, Clone)]
pub struct Env(Arc<EnvInner>);

/// What not all expressions may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `cel.bind`, in selectors of devices.
    Bindings,
    /// `includes`, in selectors of devices.
    Includes,
    /// `jsonpatch.escapeKey`, `Object{...}` and `JSONPatch{...}`, in policies that mutate.
    Mutation,
    /// Fields in backquotes; upstream has them nowhere.
    EscapedFields,
}

/// Makes an environment.
#[derive(Debug)]
pub struct EnvBuilder {
    base: Arc<Base>,
    variables: HashMap<Arc<str>, Type>,
    provider: Provider,
}

impl Env {
    /// Begins with what expressions of a kind have in every place.
    pub fn builder(expressions: Expressions) -> EnvBuilder {
        let base = shared_base(expressions);
        let mut provider = Provider::default();
        provider.keywords_as_fields = base.keywords_as_fields;
        EnvBuilder { base, variables: HashMap::new(), provider }
    }

    /// Begins with this one.
    pub fn extend(&self) -> EnvBuilder {
        EnvBuilder { base: self.0.base.clone(), variables: self.0.variables.clone(), provider: self.0.provider.clone() }
    }

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// It is no expression, or not one for this environment.
    pub fn check(&self, source: &str) -> Result<Checked, CompileErrors> {
        let ast = parser::parse(source, self.0.base.syntax)?;
        let checked = check(ast, &self.0)?;
        validate::validate(&checked, &self.0.base)?;
        Ok(Checked(checked))
    }

    /// Compiles an expression; what comes out must be of the expected type, if there is one.
    ///
    /// # Errors
    /// It is no expression, not one for this environment, of another type, or no program can be made of it.
    pub fn compile(&self, source: &str, expected: Option<&Type>) -> Result<Program, CompileErrors> {
        let checked = self.check(source)?;
        if let Some(expected) =
            expected.filter(|expected| *checked.result_type() != **expected && *checked.result_type() != Type::Any)
        {
            return Err(CompileErrors::instantiation(checked.0.ast.source(), format!("must evaluate to {expected}")));
        }
        checked.program()
    }
}

/// A checked expression.
#[derive(Debug)]
pub struct Checked(CheckedAst);

impl Checked {
    /// The type of what comes out.
    pub fn result_type(&self) -> &Type {
        self.0.type_of(self.0.ast.root())
    }

    /// What evaluating costs at least and at most.
    pub fn estimate(&self, hints: &dyn SizeHints) -> CostEstimate {
        estimate::estimate(&self.0, hints)
    }

    /// The program.
    ///
    /// # Errors
    /// A constant in it cannot be what it shall be.
    pub fn program(&self) -> Result<Program, CompileErrors> {
        plan(&self.0)
    }

    /// The expression with macros expanded, for looking at.
    pub fn show(&self) -> String {
        crate::print::show(&self.0.ast)
    }
}

impl EnvBuilder {
    /// Declares a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, of: Type) -> Self {
        self.variables.insert(Arc::from(name), of);
        self
    }

    /// Declares a variable of data with a schema. What expressions do not see cannot be declared, and is left out.
    #[must_use]
    pub fn typed_variable(mut self, name: &str, decl: &Arc<Decl>) -> Self {
        self.provider.add(decl);
        match decl.cel_type() {
            Some(of) => self.variable(name, of),
            None => self,
        }
    }

    /// Makes types known that variables have somewhere inside.
    #[must_use]
    pub fn types(mut self, decl: &Arc<Decl>) -> Self {
        self.provider.add(decl);
        self
    }

    /// Adds a library.
    #[must_use]
    pub fn library(mut self, library: Library) -> Self {
        let base = Arc::make_mut(&mut self.base);
        match library {
            Library::Bindings => base.syntax.macros.bind = true,
            Library::Includes => library::declare(&mut base.functions, library::Builtin::Includes),
            Library::Mutation => {
                library::declare(&mut base.functions, library::Builtin::JsonPatch);
                self.provider.mutation = true;
            }
            Library::EscapedFields => base.syntax.escaped = true,
        }
        self
    }

    /// The environment.
    pub fn build(self) -> Env {
        Env(Arc::new(EnvInner { base: self.base, variables: self.variables, provider: self.provider }))
    }
}

/// The base of a kind of expressions, made when it is first asked for. There are few kinds: one for each version.
fn shared_base(expressions: Expressions) -> Arc<Base> {
    static BASES: Mutex<Vec<(Expressions, Arc<Base>)>> = Mutex::new(Vec::new());
    const MAX_BASES: usize = 64;
    let mut bases = BASES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, base)) = bases.iter().find(|(own, _)| *own == expressions) {
        return base.clone();
    }
    let base = Arc::new(version::base(expressions));
    if bases.len() < MAX_BASES {
        bases.push((expressions, base.clone()));
    }
    base
}

impl EnvInner {
    pub(crate) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    pub(crate) fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.base.functions.find(name).cloned()
    }

    pub(crate) fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Whether an overload is not to be had in this version. In comprehensions upstream forgets that, and so do we.
    pub(crate) fn is_off(&self, overload: &str, outermost: bool) -> bool {
        !self.base.cross_type && outermost && is_cross_type(overload)
    }

    /// The type that a name stands for.
    pub(crate) fn find_type(&self, name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "int" => Type::Int,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "null_type" => Type::Null,
            "string" => Type::String,
            "type" => Type::Type(None),
            "uint" => Type::Uint,
            "optional_type" if self.base.optional_type => Type::optional(Type::Dyn),
            "net.IP" | "net.CIDR" if self.base.addresses => Type::opaque(name),
            _ => return self.provider.find(name),
        })
    }
}

/// `less_int64_double` and the like.
fn is_cross_type(overload: &str) -> bool {
    const NUMBERS: [&str; 3] = ["int64", "uint64", "double"];
    let mut parts = overload.rsplit('_');
    let (Some(second), Some(first)) = (parts.next(), parts.next()) else { return false };
    overload.starts_with(['l', 'g']) && NUMBERS.contains(&first) && NUMBERS.contains(&second)
}
