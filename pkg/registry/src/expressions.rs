//! Expressions that admission evaluates: what they may use, and how they are compiled.

use std::sync::{Arc, OnceLock};

use kedge_cel::decl::{Decl, Shape, UNBOUNDED};
use kedge_cel::{Env, Expressions, Program, Type};

/// The variables of such expressions.
pub const OBJECT: &str = "object";
pub const OLD_OBJECT: &str = "oldObject";
pub const REQUEST: &str = "request";
pub const NAMESPACE_OBJECT: &str = "namespaceObject";
pub const AUTHORIZER: &str = "authorizer";
pub const REQUEST_RESOURCE: &str = "authorizer.requestResource";

/// Where expressions are compiled that have all of these variables and no parameters. What is `stored` may use more than what
/// somebody wants to store.
pub fn admission(stored: bool) -> &'static Env {
    static ENVIRONMENTS: [OnceLock<Env>; 2] = [const { OnceLock::new() }; 2];
    ENVIRONMENTS[usize::from(stored)].get_or_init(|| {
        Env::builder(if stored { Expressions::Stored } else { Expressions::NEW })
            .variable(OBJECT, Type::Dyn)
            .variable(OLD_OBJECT, Type::Dyn)
            .typed_variable(REQUEST, &Arc::new(request()))
            .typed_variable(NAMESPACE_OBJECT, &Arc::new(namespace()))
            .variable(AUTHORIZER, Type::object("kubernetes.authorization.Authorizer"))
            .variable(REQUEST_RESOURCE, Type::object("kubernetes.authorization.ResourceCheck"))
            .build()
    })
}

/// Compiles a condition.
///
/// # Errors
/// Why it is none, in upstream's words.
pub fn condition(expression: &str, stored: bool) -> Result<Program, String> {
    let failed = |errors: kedge_cel::CompileErrors| {
        let what = if errors.is_instantiation() { "program instantiation failed" } else { "compilation failed" };
        format!("{what}: {errors}")
    };
    let checked = admission(stored).check(expression).map_err(failed)?;
    match checked.result_type() {
        Type::Bool | Type::Any => checked.program().map_err(failed),
        other => Err(format!("must evaluate to bool but got {other}")),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn conditions_know_their_variables() {
        for good in [
            "true",
            "object.metadata.name == 'a' && oldObject == null",
            "request.userInfo.groups.exists(g, g == 'x') && request.dryRun == false",
            "request.options.dryRun.size() > 0 || request.kind.group != request.requestResource.resource",
            "namespaceObject.metadata.labels['a'] == 'b'",
            "authorizer.group('').resource('pods').check('get').allowed()",
            "authorizer.requestResource.check('get').allowed()",
        ] {
            let compiled = condition(good, false);
            assert!(compiled.is_ok(), "{good}: {}", compiled.unwrap_err());
            assert!(condition(good, true).is_ok(), "{good}");
        }
        let said = |text| condition(text, false).unwrap_err();
        assert!(
            said("... [] bad").starts_with("compilation failed: ERROR: <input>:1:2: Syntax error: "),
            "{}",
            said("... [] bad")
        );
        assert!(said("params == 1").contains("undeclared reference to 'params' (in container '')"));
        assert!(said("request.object").contains("undefined field 'object'"));
        assert_eq!(said("1"), "must evaluate to bool but got int");
    }
}
