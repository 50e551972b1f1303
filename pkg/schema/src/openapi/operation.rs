//! The operations of the REST API: one item a path, with what each method takes and returns.
//! Invariant: an item's shared parameters are exactly those that all of its operations take.

use super::schema::meta;
use crate::table::{GroupInfo, KindInfo, Kinds};
use kedge_meta::Text;

/// A parameter in the path or the query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub ty: &'static str,
    pub in_path: bool,
    pub text: &'static str,
}

const fn query(name: &'static str, ty: &'static str, text: &'static str) -> Parameter {
    Parameter { name, ty, in_path: false, text }
}

const fn path(name: &'static str, text: &'static str) -> Parameter {
    Parameter { name, ty: "string", in_path: true, text }
}

/// All parameters, each name once; the proxies' `path` is both a query and a path parameter and is listed twice.
pub(super) static PARAMETERS: &[Parameter] = &[
    query("allowWatchBookmarks", "boolean", "Whether a watch may send events of type BOOKMARK."),
    query("command", "string", "The command and its arguments, one value each; it is not run in a shell."),
    query("container", "string", "The container; optional when the pod has only one."),
    query("continue", "string", "The token from the previous part of a list that was cut by limit."),
    query("dryRun", "string", "With All, everything is done but storing."),
    query("fieldManager", "string", "The name under which the fields set here are owned; required to apply."),
    query("fieldSelector", "string", "Restricts a list to objects whose fields have these values."),
    query(
        "fieldValidation",
        "string",
        "What happens to unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
    ),
    query("follow", "boolean", "Whether the log is followed as it grows."),
    query("force", "boolean", "Whether an apply takes over fields that others own."),
    query(
        "gracePeriodSeconds",
        "integer",
        "Seconds before the object goes; zero means at once, none the kind's default.",
    ),
    query(
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that cannot be read from the store any more, without finalizers and preconditions.",
    ),
    query("insecureSkipTLSVerifyBackend", "boolean", "Whether the certificate of the backend goes unchecked."),
    query("labelSelector", "string", "Restricts a list to objects whose labels match."),
    query("limit", "integer", "The most objects that one answer holds; the rest follows with continue."),
    query("limitBytes", "integer", "The most bytes of log that are returned."),
    path("name", "name of the object"),
    path("namespace", "object name and auth scope, such as for teams and projects"),
    query("orphanDependents", "boolean", "Deprecated, use propagationPolicy. Whether dependents stay."),
    query("path", "string", "The path on the target."),
    path("path", "path to the resource"),
    query("ports", "integer", "The ports to forward; needed over WebSocket."),
    query("pretty", "string", "Whether the answer is indented."),
    query("previous", "boolean", "Whether the log is that of the container's previous run."),
    query("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
    query("resourceVersion", "string", "The version from which on, or at which, objects are read."),
    query("resourceVersionMatch", "string", "How resourceVersion is applied to a list: Exact or NotOlderThan."),
    query("sendInitialEvents", "boolean", "Whether a watch begins with the objects that exist."),
    query("shardSelector", "string", "Restricts a list to one share of the objects."),
    query("sinceSeconds", "integer", "How many seconds of log are returned."),
    query("stderr", "boolean", "Whether standard error is attached."),
    query("stdin", "boolean", "Whether standard input is attached."),
    query("stdout", "boolean", "Whether standard output is attached."),
    query("stream", "string", "Which stream of the log: All, Stdout or Stderr."),
    query("tailLines", "integer", "How many lines at the end of the log are returned."),
    query("timeoutSeconds", "integer", "Limits the duration of the call, whatever happens."),
    query("timestamps", "boolean", "Whether each line begins with its time."),
    query("tty", "boolean", "Whether there is a terminal."),
    query("watch", "boolean", "Whether changes are streamed instead of a list returned."),
];

pub(super) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
];
pub(super) const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
];
/// On top of [`DELETE`].
pub(super) const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
];
pub(super) const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];
pub(super) const READ: &[&str] = &["pretty"];
pub(super) const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "pretty",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];

/// What a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// An object of the named definition.
    Object(Text),
    /// Options that may be left out.
    Options(Text),
    /// Whether strategic ones are taken, too.
    Patch(Text, bool),
}

/// What an answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    Object(Text),
    /// A list, or a stream of watch events.
    Stream(Text),
    /// A discovery document, which has fewer encodings.
    Discovery(Text),
    Log,
    /// Whatever the target says.
    Anything,
    /// A JSON document that is no object of the API.
    Plain(Text),
}

/// One method on one path.
#[derive(Debug)]
pub(super) struct Operation {
    /// Lower case.
    pub method: &'static str,
    pub action: &'static str,
    pub kind: Option<KindInfo>,
    pub id: String,
    pub text: String,
    /// Names, without those in the path.
    pub parameters: Vec<&'static str>,
    pub body: Body,
    pub codes: &'static [u16],
    pub returns: Returns,
}

/// A path and its operations.
#[derive(Debug)]
pub(super) struct PathItem {
    pub path: String,
    pub tag: String,
    pub operations: Vec<Operation>,
}

impl PathItem {
    /// The parameters that all operations take, and those in the path, by name.
    pub fn shared(&self) -> Vec<&'static Parameter> {
        let common = |name: &str| self.operations.iter().all(|operation| operation.parameters.contains(&name));
        let in_path = |parameter: &Parameter| self.path.contains(&format!("{{{}}}", parameter.name));
        PARAMETERS.iter().filter(|p| if p.in_path { in_path(p) } else { common(p.name) }).collect()
    }

    /// What one operation takes on top of that.
    pub fn own(&self, operation: &Operation) -> Vec<&'static Parameter> {
        let shared = self.shared();
        let own = PARAMETERS.iter().filter(|p| !p.in_path && operation.parameters.contains(&p.name));
        own.filter(|p| !shared.contains(p)).collect()
    }
}

pub(super) fn encodings(returns: &Returns) -> &'static [&'static str] {
    match returns {
        Returns::Object(_) => OBJECT,
        Returns::Stream(_) => &[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
            "application/cbor",
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
            "application/cbor-seq",
        ],
        Returns::Discovery(_) => &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"],
        Returns::Log => &[
            "text/plain",
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
            "application/cbor",
        ],
        Returns::Anything => &["*/*"],
        Returns::Plain(name) if name.is_empty() => &["application/jwk-set+json"],
        Returns::Plain(_) => &["application/json"],
    }
}

pub(super) const OBJECT: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];

/// The forms of patches: of objects of built-in kinds, and of those that have no strategies.
pub(super) fn patches(strategic: bool) -> &'static [&'static str] {
    if strategic { PATCHES } else { PLAIN_PATCHES }
}

const PLAIN_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];

pub(super) fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        _ => "Unauthorized",
    }
}

/// A GET of a document that is no resource.
pub(super) fn fixed(path: &str, tag: &str, id: &str, text: &str, returns: Returns) -> PathItem {
    let operation = Operation {
        method: "get",
        action: "",
        kind: None,
        id: id.into(),
        text: text.into(),
        parameters: Vec::new(),
        body: Body::None,
        codes: &[200],
        returns,
    };
    PathItem { path: path.into(), tag: tag.into(), operations: vec![operation] }
}

/// The documents outside of group-versions, by the name they have below `/openapi/v3/`.
pub(super) fn fixed_documents(kinds: &dyn Kinds) -> Vec<(String, PathItem)> {
    let mut documents = vec![
        (
            "api".to_string(),
            fixed(
                "/api/",
                "core",
                "getCoreAPIVersions",
                "get available API versions",
                Returns::Discovery(meta("APIVersions")),
            ),
        ),
        (
            "apis".to_string(),
            fixed(
                "/apis/",
                "apis",
                "getAPIVersions",
                "get available API versions",
                Returns::Discovery(meta("APIGroupList")),
            ),
        ),
        (
            "version".to_string(),
            fixed(
                "/version/",
                "version",
                "getCodeVersion",
                "get the version information for this server",
                Returns::Plain(Text::of("io.k8s.apimachinery.pkg.version.Info")),
            ),
        ),
        (
            ".well-known/openid-configuration".to_string(),
            fixed(
                "/.well-known/openid-configuration/",
                "WellKnown",
                "getServiceAccountIssuerOpenIDConfiguration",
                "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
                Returns::Plain(Text::of("string")),
            ),
        ),
        (
            "openid/v1/jwks".to_string(),
            fixed(
                "/openid/v1/jwks/",
                "openid",
                "getServiceAccountIssuerOpenIDKeyset",
                "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
                Returns::Plain(Text::of("")),
            ),
        ),
    ];
    // Of a group that others serve alone nothing is said here.
    let is_own = |group: &&GroupInfo| group.versions.iter().any(|one| kinds.elsewhere(&group.name, one).is_none());
    for group in kinds.groups().filter(|group| !group.name.is_empty()).filter(is_own) {
        let item = fixed(
            &format!("/apis/{}/", group.name),
            &super::paths::camel(&group.name, false),
            &format!("get{}APIGroup", super::paths::camel(&group.name, true)),
            "get information of a group",
            Returns::Discovery(meta("APIGroup")),
        );
        documents.push((format!("apis/{}", group.name), item));
    }
    documents
}
