//! What expressions of admission may use: their variables, and the types of those.

use std::sync::{Arc, OnceLock};

use crate::decl::{Decl, Shape, UNBOUNDED};
use crate::{Env, EnvBuilder, Expressions, Library, Type};

/// The variables of such expressions.
pub const OBJECT: &str = "object";
pub const OLD_OBJECT: &str = "oldObject";
pub const REQUEST: &str = "request";
pub const NAMESPACE_OBJECT: &str = "namespaceObject";
pub const PARAMS: &str = "params";
pub const VARIABLES: &str = "variables";
pub const AUTHORIZER: &str = "authorizer";
pub const REQUEST_RESOURCE: &str = "authorizer.requestResource";
/// What is composed of expressions that have a name.
pub const VARIABLES_TYPE: &str = "kubernetes.variables";

/// What an expression has beside what all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given {
    /// What is stored may use more than what somebody wants to store.
    pub stored: bool,
    pub params: bool,
    pub authorizer: bool,
    /// `Object{...}`, `JSONPatch{...}`.
    pub patches: bool,
}

/// The environment with all of these.
pub(super) fn with(given: Given) -> &'static Env {
    static ENVIRONMENTS: [OnceLock<Env>; 16] = [const { OnceLock::new() }; 16];
    let flags = [given.stored, given.params, given.authorizer, given.patches];
    let at = flags.iter().fold(0, |at, flag| at * 2 + usize::from(*flag));
    ENVIRONMENTS[at].get_or_init(|| {
        let mut builder = base(given.stored).variable(OBJECT, Type::Dyn).variable(OLD_OBJECT, Type::Dyn);
        if given.params {
            builder = builder.variable(PARAMS, Type::Dyn);
        }
        if given.authorizer {
            builder = builder
                .variable(AUTHORIZER, Type::object("kubernetes.authorization.Authorizer"))
                .variable(REQUEST_RESOURCE, Type::object("kubernetes.authorization.ResourceCheck"));
        }
        if given.patches {
            builder = builder.library(Library::Mutation);
        }
        builder.build()
    })
}

/// What objects are made of is known: `object` and `params` have these types, or none.
pub(super) fn typed(object: Option<&Arc<Decl>>, params: Option<Option<&Arc<Decl>>>) -> Env {
    let declare = |builder: EnvBuilder, name: &str, decl: Option<&Arc<Decl>>| match decl {
        Some(decl) => builder.typed_variable(name, decl),
        None => builder.variable(name, Type::Dyn),
    };
    let mut builder = declare(declare(base(true), OBJECT, object), OLD_OBJECT, object);
    if let Some(params) = params {
        builder = declare(builder, PARAMS, params);
    }
    builder.variable(AUTHORIZER, Type::object("kubernetes.authorization.Authorizer")).build()
}

fn base(stored: bool) -> EnvBuilder {
    Env::builder(if stored { Expressions::Stored } else { Expressions::NEW })
        .typed_variable(REQUEST, &Arc::new(request()))
        .typed_variable(NAMESPACE_OBJECT, &Arc::new(namespace()))
}

fn text() -> Decl {
    Decl::string(UNBOUNDED)
}

fn of(shape: Shape) -> Decl {
    Decl::new(shape, 0, 1)
}

fn texts() -> Decl {
    Decl::list(text(), UNBOUNDED)
}

fn labels() -> Decl {
    Decl::map(text(), text(), UNBOUNDED)
}

/// `AdmissionRequest`, but for its objects.
fn request() -> Decl {
    let kind =
        || Decl::object("kubernetes.GroupVersionKind", ["group", "version", "kind"].map(|field| (field, text())));
    let resource = || {
        Decl::object("kubernetes.GroupVersionResource", ["group", "version", "resource"].map(|field| (field, text())))
    };
    let extra = Decl::map(text(), texts(), UNBOUNDED);
    let user = Decl::object(
        "kubernetes.UserInfo",
        [("username", text()), ("uid", text()), ("groups", texts()), ("extra", extra)],
    );
    Decl::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", of(Shape::Bool)),
            ("options", Decl::of_type(Type::Dyn, UNBOUNDED)),
        ],
    )
}

/// A namespace, as far as expressions see it.
fn namespace() -> Decl {
    let condition = Decl::object(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", of(Shape::Timestamp)),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let status = Decl::object(
        "kubernetes.NamespaceStatus",
        [("conditions", Decl::list(condition, UNBOUNDED)), ("phase", text())],
    );
    let metadata = Decl::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", labels()),
            ("annotations", labels()),
            ("UID", text()),
            ("creationTimestamp", of(Shape::Timestamp)),
            ("deletionGracePeriodSeconds", of(Shape::Int)),
            ("deletionTimestamp", of(Shape::Timestamp)),
            ("generation", of(Shape::Int)),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let spec = Decl::object("kubernetes.NamespaceSpec", [("finalizers", texts())]);
    Decl::object("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
}
