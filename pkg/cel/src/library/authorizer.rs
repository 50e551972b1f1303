//! Authorization checks.

use std::sync::Arc;

use kedge_meta::names::{is_dns1123_label, is_dns1123_subdomain};

use crate::authorizer::{Answer, Check, Decision, ResourceTarget, Subject, Target};
use crate::error::EvalError;
use crate::functions::Functions;
use crate::value::{Evaluated, Opaque, Value};

pub(super) fn declare(functions: &mut Functions) {
    functions.declare(
        "authorizer_path",
        "kubernetes.authorization.Authorizer.path(string) -> kubernetes.authorization.PathCheck",
        |_, args| path(args),
    );
    functions.declare(
        "authorizer_group",
        "kubernetes.authorization.Authorizer.group(string) -> kubernetes.authorization.GroupCheck",
        |_, args| match (opaque(args)?, text(args, 1)?) {
            (Opaque::Authorizer { authorizer, subject }, group) => Ok(Value::opaque(Opaque::GroupCheck {
                authorizer: *authorizer,
                subject: subject.clone(),
                group: group.into(),
            })),
            _ => Err(EvalError::no_such_overload()),
        },
    );
    functions.declare(
        "authorizer_serviceaccount",
        "kubernetes.authorization.Authorizer.serviceAccount(string, string) -> kubernetes.authorization.Authorizer",
        |_, args| service_account(args),
    );
    functions.declare(
        "groupcheck_resource",
        "kubernetes.authorization.GroupCheck.resource(string) -> kubernetes.authorization.ResourceCheck",
        |_, args| resource(args),
    );
    functions.declare(
        "resourcecheck_subresource",
        "kubernetes.authorization.ResourceCheck.subresource(string) -> kubernetes.authorization.ResourceCheck",
        |_, args| with(args, |target, text| target.subresource = text),
    );
    functions.declare(
        "resourcecheck_namespace",
        "kubernetes.authorization.ResourceCheck.namespace(string) -> kubernetes.authorization.ResourceCheck",
        |_, args| with(args, |target, text| target.namespace = text),
    );
    functions.declare(
        "resourcecheck_name",
        "kubernetes.authorization.ResourceCheck.name(string) -> kubernetes.authorization.ResourceCheck",
        |_, args| with(args, |target, text| target.name = text),
    );
    functions.declare(
        "pathcheck_check",
        "kubernetes.authorization.PathCheck.check(string) -> kubernetes.authorization.Decision",
        |_, args| check(args),
    );
    functions.declare(
        "resourcecheck_check",
        "kubernetes.authorization.ResourceCheck.check(string) -> kubernetes.authorization.Decision",
        |_, args| check(args),
    );
    functions.declare("decision_errored", "kubernetes.authorization.Decision.errored() -> bool", |_, args| {
        decision(args).map(|it| Value::Bool(it.error.is_some()))
    });
    functions.declare("decision_error", "kubernetes.authorization.Decision.error() -> string", |_, args| {
        decision(args).map(|it| Value::string(it.error.as_deref().unwrap_or_default()))
    });
    functions.declare("decision_allowed", "kubernetes.authorization.Decision.allowed() -> bool", |_, args| {
        decision(args).map(|it| Value::Bool(it.allowed))
    });
    functions.declare("decision_reason", "kubernetes.authorization.Decision.reason() -> string", |_, args| {
        decision(args).map(|it| Value::string(&*it.reason))
    });
}

pub(super) fn declare_selectors(functions: &mut Functions) {
    functions.declare(
        "authorizer_fieldselector",
        "kubernetes.authorization.ResourceCheck.fieldSelector(string) -> kubernetes.authorization.ResourceCheck",
        |_, args| with(args, |target, text| target.field_selector = text),
    );
    functions.declare(
        "authorizer_labelselector",
        "kubernetes.authorization.ResourceCheck.labelSelector(string) -> kubernetes.authorization.ResourceCheck",
        |_, args| with(args, |target, text| target.label_selector = text),
    );
}

fn opaque<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v Opaque<'a>, EvalError> {
    match args.first() {
        Some(Value::Opaque(it)) => Ok(it),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn text<'v>(args: &'v [Value<'_>], n: usize) -> Result<&'v str, EvalError> {
    match args.get(n) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, EvalError> {
    match opaque(args)? {
        Opaque::Decision(decision) => Ok(decision),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn path<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    let (Opaque::Authorizer { authorizer, subject }, path) = (opaque(args)?, text(args, 1)?) else {
        return Err(EvalError::no_such_overload());
    };
    if path.trim().is_empty() {
        return Err(EvalError::new("path must not be empty"));
    }
    Ok(Value::opaque(Opaque::PathCheck { authorizer: *authorizer, subject: subject.clone(), path: path.into() }))
}

fn service_account<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    let Opaque::Authorizer { authorizer, .. } = opaque(args)? else { return Err(EvalError::no_such_overload()) };
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    if !is_dns1123_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !is_dns1123_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let subject = Subject::ServiceAccount { namespace: namespace.into(), name: name.into() };
    Ok(Value::opaque(Opaque::Authorizer { authorizer: *authorizer, subject: Arc::new(subject) }))
}

fn resource<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    let (Opaque::GroupCheck { authorizer, subject, group }, resource) = (opaque(args)?, text(args, 1)?) else {
        return Err(EvalError::no_such_overload());
    };
    if resource.trim().is_empty() {
        return Err(EvalError::new("resource must not be empty"));
    }
    let target = ResourceTarget { group: group.clone(), resource: resource.into(), ..ResourceTarget::default() };
    Ok(Value::opaque(Opaque::ResourceCheck { authorizer: *authorizer, subject: subject.clone(), target }))
}

fn with<'a>(args: &[Value<'a>], set: fn(&mut ResourceTarget, Box<str>)) -> Evaluated<'a> {
    let (Opaque::ResourceCheck { authorizer, subject, target }, text) = (opaque(args)?, text(args, 1)?) else {
        return Err(EvalError::no_such_overload());
    };
    let mut target = target.clone();
    set(&mut target, text.into());
    Ok(Value::opaque(Opaque::ResourceCheck { authorizer: *authorizer, subject: subject.clone(), target }))
}

/// Asks the authorizer; a question that it cannot answer yet ends the evaluation.
fn check<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    let verb = text(args, 1)?.into();
    let (authorizer, subject, target) = match opaque(args)? {
        Opaque::PathCheck { authorizer, subject, path } => (authorizer, subject, Target::Path(path.clone())),
        Opaque::ResourceCheck { authorizer, subject, target } => {
            (authorizer, subject, Target::Resource(Box::new(target.clone())))
        }
        _ => return Err(EvalError::no_such_overload()),
    };
    let check = Check { subject: (**subject).clone(), target, verb };
    match authorizer.check(&check) {
        Answer::Decided(decision) => Ok(Value::opaque(Opaque::Decision(decision))),
        Answer::Pending => Err(EvalError::Pending(Box::new(check))),
    }
}
