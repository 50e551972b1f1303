//! Writes path items and schemas as a whole document of either version.

use super::descriptions::Descriptions;
use super::json::Json;
use super::operation::{Body, OBJECT, Operation, PARAMETERS, Parameter, PathItem, Returns, encodings, patches, reason};
use super::own::Own;
use super::schema::{Dialect, Referred, Scope, definition, group_version_kind};
use kedge_meta::Text;

/// The version of Kubernetes that is implemented.
const VERSION: &str = "v1.36.2";
const SECURITY: &str = r#"{"BearerToken":{"description":"Bearer Token authentication","in":"header","name":"authorization","type":"apiKey"}}"#;

/// A document of version 3 for these paths.
pub(super) fn v3(items: &[PathItem], scope: Scope<'_>, own: &Own<'_>) -> Vec<u8> {
    let mut json = Json::default();
    json.object(|json| {
        json.key("openapi").text("3.0.0");
        info(json);
        let mut referred = Referred::default();
        json.key("paths").object(|json| paths(json, Dialect::V3, items, &mut referred));
        json.key("components").object(|json| {
            let names = referred.close(own);
            if !names.is_empty() {
                let docs = Descriptions::load();
                json.key("schemas").object(|json| {
                    for name in names {
                        json.key(&name);
                        if !own.definition(json, Dialect::V3, &name, &docs) {
                            definition(json, Dialect::V3, &name, scope, &docs);
                        }
                    }
                });
            }
            json.key("securitySchemes").raw(SECURITY);
        });
    });
    json.finish()
}

/// The one document of version 2.
pub(super) fn v2(items: &[PathItem], scope: Scope<'_>, own: &Own<'_>) -> Vec<u8> {
    let mut json = Json::default();
    json.object(|json| {
        json.key("swagger").text("2.0");
        info(json);
        let mut referred = Referred::default();
        json.key("paths").object(|json| paths(json, Dialect::V2, items, &mut referred));
        let docs = Descriptions::load();
        json.key("definitions").object(|json| {
            for name in referred.close(own) {
                json.key(&name);
                if !own.definition(json, Dialect::V2, &name, &docs) {
                    definition(json, Dialect::V2, &name, scope, &docs);
                }
            }
        });
        json.key("parameters").object(|json| {
            for parameter in PARAMETERS {
                json.key(&shared_name(parameter)).object(|json| describe(json, Dialect::V2, parameter));
            }
        });
        json.key("securityDefinitions").raw(SECURITY);
        json.key("security").raw(r#"[{"BearerToken":[]}]"#);
    });
    json.finish()
}

fn info(json: &mut Json) {
    json.key("info").object(|json| {
        json.key("title").text("Kubernetes");
        json.key("version").text(VERSION);
    });
}

/// The name of a parameter among those that version 2 shares.
fn shared_name(parameter: &Parameter) -> String {
    format!("{}-{}", parameter.name, if parameter.in_path { "path" } else { "query" })
}

fn paths(json: &mut Json, dialect: Dialect, items: &[PathItem], referred: &mut Referred) {
    for item in items {
        json.key(&item.path).object(|json| {
            for one in &item.operations {
                json.key(one.method).object(|json| operation(json, dialect, item, one, referred));
            }
            let shared = item.shared();
            if !shared.is_empty() {
                json.key("parameters").list(|json| parameters(json, dialect, &shared));
            }
        });
    }
}

fn parameters(json: &mut Json, dialect: Dialect, list: &[&Parameter]) {
    for parameter in list {
        json.object(|json| match dialect {
            Dialect::V2 => json.key("$ref").text(&format!("#/parameters/{}", shared_name(parameter))),
            Dialect::V3 => describe(json, dialect, parameter),
        });
    }
}

fn describe(json: &mut Json, dialect: Dialect, parameter: &Parameter) {
    json.key("description").text(parameter.text);
    json.key("in").text(if parameter.in_path { "path" } else { "query" });
    json.key("name").text(parameter.name);
    if parameter.in_path {
        json.key("required").raw("true");
    }
    let ty = |json: &mut Json| {
        json.key("type").text(parameter.ty);
        json.key("uniqueItems").raw("true");
    };
    match dialect {
        Dialect::V2 => ty(json),
        Dialect::V3 => json.key("schema").object(ty),
    }
}

fn operation(json: &mut Json, dialect: Dialect, item: &PathItem, one: &Operation, referred: &mut Referred) {
    json.key("description").text(&one.text);
    json.key("operationId").text(&one.id);
    json.key("tags").texts([item.tag.as_str()]);
    match dialect {
        Dialect::V2 => v2_traffic(json, item, one, referred),
        Dialect::V3 => v3_traffic(json, item, one, referred),
    }
    if !one.action.is_empty() {
        json.key("x-kubernetes-action").text(one.action);
    }
    if let Some(kind) = &one.kind {
        json.key("x-kubernetes-group-version-kind");
        group_version_kind(json, &kind.group, &kind.version, &kind.kind);
    }
}

/// The schema of an answer: a reference, or any text.
fn answer(json: &mut Json, dialect: Dialect, returns: &Returns, referred: &mut Referred) {
    json.object(|json| match returns {
        Returns::Object(name) | Returns::Stream(name) | Returns::Discovery(name) => {
            refer(json, dialect, name, referred)
        }
        Returns::Plain(name) if name.contains('.') => refer(json, dialect, name, referred),
        Returns::Log | Returns::Anything | Returns::Plain(_) => json.key("type").text("string"),
    });
}

fn refer(json: &mut Json, dialect: Dialect, name: &Text, referred: &mut Referred) {
    referred.note(name.clone());
    json.key("$ref").text(&dialect.reference(name));
}

fn v3_traffic(json: &mut Json, item: &PathItem, one: &Operation, referred: &mut Referred) {
    let own = item.own(one);
    if !own.is_empty() {
        json.key("parameters").list(|json| parameters(json, Dialect::V3, &own));
    }
    let (kinds, name): (&[&str], _) = match &one.body {
        Body::None => (&[], None),
        Body::Object(name) | Body::Options(name) => (&["*/*"], Some(name)),
        Body::Patch(name, strategic) => (patches(*strategic), Some(name)),
    };
    if let Some(name) = name {
        json.key("requestBody").object(|json| {
            json.key("content").object(|json| {
                for kind in kinds {
                    json.key(kind).object(|json| {
                        json.key("schema").object(|json| refer(json, Dialect::V3, name, referred));
                    });
                }
            });
            if !matches!(one.body, Body::Options(_)) {
                json.key("required").raw("true");
            }
        });
    }
    json.key("responses").object(|json| {
        for code in one.codes {
            json.key(&code.to_string()).object(|json| {
                json.key("description").text(reason(*code));
                json.key("content").object(|json| {
                    for kind in encodings(&one.returns) {
                        json.key(kind).object(|json| {
                            json.key("schema");
                            answer(json, Dialect::V3, &one.returns, referred);
                        });
                    }
                });
            });
        }
        json.key("401").object(|json| json.key("description").text(reason(401)));
    });
}

fn v2_traffic(json: &mut Json, item: &PathItem, one: &Operation, referred: &mut Referred) {
    let consumes: &[&str] = match (&one.body, &one.returns) {
        (Body::Patch(_, strategic), _) => patches(*strategic),
        (_, Returns::Discovery(_)) => encodings(&one.returns),
        (_, Returns::Plain(name)) => {
            if name.contains('.') {
                &["application/json"]
            } else {
                &[]
            }
        }
        _ if one.action.is_empty() => OBJECT,
        _ => &["*/*"],
    };
    if !consumes.is_empty() {
        json.key("consumes").texts(consumes.iter().copied());
    }
    json.key("produces").texts(encodings(&one.returns).iter().copied());
    json.key("schemes").texts(["https"]);
    let own = item.own(one);
    let body = match &one.body {
        Body::None => None,
        Body::Object(name) | Body::Patch(name, _) => Some((name, true)),
        Body::Options(name) => Some((name, false)),
    };
    if !own.is_empty() || body.is_some() {
        json.key("parameters").list(|json| {
            if let Some((name, required)) = body {
                json.object(|json| {
                    json.key("in").text("body");
                    json.key("name").text("body");
                    if required {
                        json.key("required").raw("true");
                    }
                    json.key("schema").object(|json| refer(json, Dialect::V2, name, referred));
                });
            }
            parameters(json, Dialect::V2, &own);
        });
    }
    json.key("responses").object(|json| {
        for code in one.codes {
            json.key(&code.to_string()).object(|json| {
                json.key("description").text(reason(*code));
                json.key("schema");
                answer(json, Dialect::V2, &one.returns, referred);
            });
        }
        json.key("401").object(|json| json.key("description").text(reason(401)));
    });
}
