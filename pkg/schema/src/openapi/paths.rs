//! The paths of one group-version, derived from its resources.

use super::operation::{Body, DELETE, DELETE_COLLECTION, LIST, LOG, Operation, PathItem, READ, Returns, WRITE, fixed};
use super::own;
use super::schema::meta;
use crate::SchemaRef;
use crate::table::{KindInfo, Kinds, ResourceInfo, SubresourceInfo, Verb};
use kedge_meta::Text;

/// `rbacAuthorization` or `RbacAuthorization` for `rbac.authorization.k8s.io`; core has a name of its own here.
pub(super) fn camel(group: &str, first_upper: bool) -> String {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    let parts = group.split(['.', '-']).enumerate();
    parts.map(|(at, part)| if at > 0 || first_upper { capital(part) } else { part.to_string() }).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// All paths of a group-version, sorted.
pub(super) fn of_version(kinds: &dyn Kinds, group: &str, version: &str) -> Vec<PathItem> {
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let prefix = format!("{}{}", camel(group, true), capital(version));
    let tag = format!("{}_{version}", camel(group, false));
    let list = fixed(
        &format!("{root}/"),
        &tag,
        &format!("get{prefix}APIResources"),
        "get available resources",
        Returns::Object(meta("APIResourceList")),
    );
    let mut items = vec![list];
    for info in kinds.resources(group, version) {
        let builder = Builder { info, root: &root, prefix: &prefix, tag: &tag };
        builder.collection(&mut items);
        builder.item(&mut items);
        builder.watches(&mut items);
        for sub in &info.subresources {
            builder.subresource(sub, &mut items);
        }
    }
    items.retain(|item| !item.operations.is_empty());
    items.sort_by(|a, b| a.path.cmp(&b.path));
    items
}

struct Builder<'a> {
    info: &'a ResourceInfo,
    root: &'a str,
    prefix: &'a str,
    tag: &'a str,
}

impl Builder<'_> {
    fn kind(&self) -> KindInfo {
        self.info.own_kind()
    }

    fn definition(&self) -> Text {
        self.info.schema.definition_name()
    }

    fn list_definition(&self) -> Text {
        own::list_definition(self.info)
    }

    /// `Namespaced` where objects live in namespaces.
    fn scope(&self) -> &'static str {
        if self.info.namespaced { "Namespaced" } else { "" }
    }

    fn collection_path(&self, middle: &str) -> String {
        let namespace = if self.info.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{middle}{namespace}/{}", self.root, self.info.plural)
    }

    fn path_item(&self, path: String, operations: Vec<Operation>) -> PathItem {
        PathItem { path, tag: self.tag.into(), operations }
    }

    fn operation(&self, method: &'static str, action: &'static str, id: String, text: String) -> Operation {
        Operation {
            method,
            action,
            kind: Some(self.kind()),
            id,
            text,
            parameters: READ.to_vec(),
            body: Body::None,
            codes: &[200],
            returns: Returns::Object(self.definition()),
        }
    }

    fn collection(&self, items: &mut Vec<PathItem>) {
        let (info, prefix, scope, kind) = (self.info, self.prefix, self.scope(), &self.info.kind);
        let mut operations = Vec::new();
        if info.has_verb(Verb::DeleteCollection) {
            let id = format!("delete{prefix}Collection{scope}{kind}");
            operations.push(Operation {
                parameters: [DELETE, DELETE_COLLECTION].concat(),
                body: Body::Options(meta("DeleteOptions")),
                returns: Returns::Object(meta("Status")),
                ..self.operation("delete", "deletecollection", id, format!("delete collection of {kind}"))
            });
        }
        if info.has_verb(Verb::List) {
            let list = |id: String| Operation {
                parameters: LIST.to_vec(),
                returns: Returns::Stream(self.list_definition()),
                ..self.operation("get", "list", id, format!("list or watch objects of kind {kind}"))
            };
            operations.push(list(format!("list{prefix}{scope}{kind}")));
            if info.namespaced {
                let everywhere = list(format!("list{prefix}{kind}ForAllNamespaces"));
                items.push(self.path_item(format!("{}/{}", self.root, info.plural), vec![everywhere]));
            }
        }
        if info.has_verb(Verb::Create) {
            let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
            operations.push(Operation {
                parameters: WRITE.to_vec(),
                body: Body::Object(self.definition()),
                codes: &[200, 201, 202],
                ..self.operation(
                    "post",
                    "post",
                    format!("create{prefix}{scope}{kind}"),
                    format!("create {article} {kind}"),
                )
            });
        }
        items.push(self.path_item(self.collection_path(""), operations));
    }

    fn item(&self, items: &mut Vec<PathItem>) {
        let (info, prefix, scope, kind) = (self.info, self.prefix, self.scope(), &self.info.kind);
        let mut operations = Vec::new();
        if info.has_verb(Verb::Delete) {
            let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
            let deleted = if returns_deleted(info) { self.definition() } else { meta("Status") };
            operations.push(Operation {
                parameters: DELETE.to_vec(),
                body: Body::Options(meta("DeleteOptions")),
                codes: &[200, 202],
                returns: Returns::Object(deleted),
                ..self.operation(
                    "delete",
                    "delete",
                    format!("delete{prefix}{scope}{kind}"),
                    format!("delete {article} {kind}"),
                )
            });
        }
        self.reads_and_writes(&mut operations, &|verb| info.has_verb(verb), self.kind(), self.definition(), "");
        items.push(self.path_item(format!("{}/{{name}}", self.collection_path("")), operations));
    }

    /// GET, PATCH and PUT of an object or of one of its subresources.
    fn reads_and_writes(
        &self,
        operations: &mut Vec<Operation>,
        has: &dyn Fn(Verb) -> bool,
        body: KindInfo,
        definition: Text,
        sub: &str,
    ) {
        let name = format!("{}{}{}{}", self.prefix, self.scope(), self.info.kind, capital(sub));
        let of = if sub.is_empty() { String::new() } else { format!("{sub} of ") };
        let (kind, returns) = (|| Some(body.clone()), || Returns::Object(definition.clone()));
        let what = &self.info.kind;
        if has(Verb::Get) {
            let text = format!("read {of}the specified {what}");
            operations.push(Operation {
                kind: kind(),
                returns: returns(),
                ..self.operation("get", "get", format!("read{name}"), text)
            });
        }
        if has(Verb::Patch) {
            let text = format!("partially update {of}the specified {what}");
            operations.push(Operation {
                kind: kind(),
                returns: returns(),
                parameters: [WRITE, &["force"]].concat(),
                body: Body::Patch(meta("Patch"), self.info.schema.builtin().is_some()),
                codes: &[200, 201],
                ..self.operation("patch", "patch", format!("patch{name}"), text)
            });
        }
        if has(Verb::Update) {
            let text = format!("replace {of}the specified {what}");
            operations.push(Operation {
                kind: kind(),
                returns: returns(),
                parameters: WRITE.to_vec(),
                body: Body::Object(definition.clone()),
                codes: &[200, 201],
                ..self.operation("put", "put", format!("replace{name}"), text)
            });
        }
    }

    fn watches(&self, items: &mut Vec<PathItem>) {
        if !self.info.has_verb(Verb::Watch) {
            return;
        }
        let (info, prefix, scope, kind) = (self.info, self.prefix, self.scope(), &self.info.kind);
        let watch = |action, id: String, what: &str| Operation {
            parameters: LIST.to_vec(),
            returns: Returns::Stream(meta("WatchEvent")),
            ..self.operation("get", action, id, format!("deprecated: watch changes to {what} of kind {kind}"))
        };
        let list = watch("watchlist", format!("watch{prefix}{scope}{kind}List"), "a list");
        let one = watch("watch", format!("watch{prefix}{scope}{kind}"), "one object");
        let path = self.collection_path("/watch");
        items.push(self.path_item(format!("{path}/{{name}}"), vec![one]));
        items.push(self.path_item(path, vec![list]));
        if info.namespaced {
            let everywhere = watch("watchlist", format!("watch{prefix}{kind}ListForAllNamespaces"), "a list");
            items.push(self.path_item(format!("{}/watch/{}", self.root, info.plural), vec![everywhere]));
        }
    }

    fn subresource(&self, sub: &SubresourceInfo, items: &mut Vec<PathItem>) {
        let path = format!("{}/{{name}}/{}", self.collection_path(""), sub.name);
        if sub.kind.kind.ends_with("Options") {
            let operations = self.connects(sub, "");
            items.push(self.path_item(path.clone(), operations));
            if sub.name == "proxy" {
                items.push(self.path_item(format!("{path}/{{path}}"), self.connects(sub, "WithPath")));
            }
            return;
        }
        let definition = sub.schema.as_ref().map_or_else(Text::default, SchemaRef::definition_name);
        let mut operations = Vec::new();
        self.reads_and_writes(
            &mut operations,
            &|verb| sub.has_verb(verb),
            sub.kind.clone(),
            definition.clone(),
            &sub.name,
        );
        if sub.name == "log" {
            for operation in &mut operations {
                (operation.parameters, operation.returns) = (LOG.to_vec(), Returns::Log);
            }
        }
        if sub.has_verb(Verb::Create) {
            let name = format!("create{}{}{}{}", self.prefix, self.scope(), &self.info.kind, capital(&sub.name));
            operations.push(Operation {
                kind: Some(sub.kind.clone()),
                parameters: WRITE.to_vec(),
                body: Body::Object(definition.clone()),
                codes: &[200, 201, 202],
                returns: Returns::Object(definition),
                ..self.operation("post", "post", name, format!("create {} of a {}", sub.name, self.info.kind))
            });
        }
        items.push(self.path_item(path, operations));
    }

    /// Streams and proxies: whatever method the discovery document allows.
    fn connects(&self, sub: &SubresourceInfo, suffix: &str) -> Vec<Operation> {
        let methods: &[&'static str] = if sub.name == "proxy" {
            &["delete", "get", "head", "options", "patch", "post", "put"]
        } else {
            &["get", "post"]
        };
        let parameters: &[&'static str] = match &*sub.name {
            "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
            "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
            "portforward" => &["ports"],
            _ => &["path"],
        };
        let connect = |method: &&'static str| {
            let (scope, kind, name) = (self.scope(), &self.info.kind, capital(&sub.name));
            let id = format!("connect{}{}{scope}{kind}{name}{suffix}", self.prefix, capital(method));
            let text = format!("connect {} requests to {} of {kind}", method.to_uppercase(), sub.name);
            Operation {
                kind: Some(sub.kind.clone()),
                parameters: parameters.to_vec(),
                returns: Returns::Anything,
                ..self.operation(method, "connect", id, text)
            }
        };
        methods.iter().map(connect).collect()
    }
}

/// Whether a delete answers with the object instead of a status.
fn returns_deleted(info: &ResourceInfo) -> bool {
    match &*info.group {
        "" => matches!(
            &*info.plural,
            "persistentvolumes"
                | "persistentvolumeclaims"
                | "pods"
                | "podtemplates"
                | "resourcequotas"
                | "services"
                | "serviceaccounts"
        ),
        "storage.k8s.io" => info.plural != "csistoragecapacities",
        "resource.k8s.io" => true,
        _ => false,
    }
}
