//! URLs.

use std::sync::Arc;

use crate::error::EvalError;
use crate::functions::Functions;
use crate::url::{parse_request_uri, parse_url, unescape};
use crate::value::{Evaluated, Key, Map, Opaque, OwnedMap, Text, Url, Value};

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("string_to_url", "url(string) -> kubernetes.URL", |_, args| match args {
        [Value::String(text)] => {
            let wrong = |why| EvalError::new(format!("URL parse error during conversion from string: {why}"));
            Ok(Value::opaque(Opaque::Url(parse_url(text).map_err(wrong)?)))
        }
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("url_get_scheme", "kubernetes.URL.getScheme() -> string", |_, args| {
        Ok(Value::string(&*url(args)?.scheme))
    });
    functions
        .declare("url_get_host", "kubernetes.URL.getHost() -> string", |_, args| Ok(Value::string(&*url(args)?.host)));
    functions.declare("url_get_hostname", "kubernetes.URL.getHostname() -> string", |_, args| {
        let (name, _) = name_and_port(&url(args)?.host);
        Ok(Value::string(name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name)))
    });
    functions.declare("url_get_port", "kubernetes.URL.getPort() -> string", |_, args| {
        Ok(Value::string(name_and_port(&url(args)?.host).1))
    });
    functions.declare("url_get_escaped_path", "kubernetes.URL.getEscapedPath() -> string", |_, args| {
        Ok(Value::string(&*url(args)?.escaped_path))
    });
    functions.declare("url_get_query", "kubernetes.URL.getQuery() -> map<string, list<string>>", |context, args| {
        let query = &url(args)?.query;
        context.step(query.len() / 8)?;
        get_query(query)
    });
    functions.declare("is_url_string", "isURL(string) -> bool", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(parse_request_uri(text).is_ok())),
        _ => Err(EvalError::no_such_overload()),
    });
}

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    match args.first() {
        Some(Value::Opaque(it)) => match &**it {
            Opaque::Url(url) => Ok(url),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn name_and_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    }
}

/// Names with their values; what is no valid part is left out, as Go leaves it out.
fn get_query<'a>(query: &str) -> Evaluated<'a> {
    let mut found: std::collections::BTreeMap<String, Vec<Value<'a>>> = std::collections::BTreeMap::new();
    for part in query.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if let (Ok(name), Ok(value)) = (unescape(name, true), unescape(value, true)) {
            found.entry(name).or_default().push(Value::string(value));
        }
    }
    let mut map = OwnedMap::default();
    for (name, values) in found {
        map.insert(Key::String(Text::Shared(name.into())), Value::list(values));
    }
    Ok(Value::Map(Map::Owned(Arc::new(map))))
}
