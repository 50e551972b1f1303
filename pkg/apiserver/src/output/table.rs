//! Tables and metadata alone, as `meta.k8s.io` has them.

use kedge_meta::Status;
use kedge_meta::field::{self, Path};
use std::sync::Arc;

use kedge_registry::printers::{self, Print};
use serde::Serialize;
use serde_json::{Value, json};

use crate::input::negotiate::Accepted;
use crate::input::request_info::RequestInfo;

/// `metav1.ListMeta`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListMeta {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<usize>,
}

impl ListMeta {
    /// Only a version.
    pub(crate) fn at(version: &str) -> Self {
        Self { resource_version: version.to_owned(), ..Self::default() }
    }
}

/// How much of each object a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Options {
    None,
    Metadata,
    Object,
}

impl Options {
    /// The query parameter `includeObject`.
    ///
    /// # Errors
    /// 400 for another value.
    pub(crate) fn from_query(info: &RequestInfo) -> Result<Self, Status> {
        match info.param("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => {
                let valid = ["Metadata", "None", "Object", ""];
                let error = field::Error::not_supported(&Path::new("includeObject"), other, &valid);
                Err(Status::bad_request(format!("Unable to convert to Table as requested: {error}")))
            }
        }
    }
}

/// The metadata of an object as an object of its own, in a version of `meta.k8s.io`.
pub(crate) fn partial_metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": version,
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

/// What makes rows of objects of one resource.
pub(crate) struct Rows {
    printer: Arc<dyn Print>,
    options: Options,
    /// Of `meta.k8s.io`.
    version: String,
    now: jiff::Timestamp,
}

impl Rows {
    pub(crate) fn new(printer: &Arc<dyn Print>, options: Options, accepted: Accepted, now: jiff::Timestamp) -> Self {
        Self { printer: printer.clone(), options, version: accepted.meta_version(), now }
    }

    /// A table of these objects.
    pub(crate) fn table(&self, objects: &[Value], meta: &ListMeta) -> Value {
        json!({
            "kind": "Table",
            "apiVersion": self.version,
            "metadata": meta,
            "columnDefinitions": self.columns(),
            "rows": objects.iter().map(|object| self.row(object)).collect::<Vec<_>>(),
        })
    }

    /// The definitions of the columns.
    pub(crate) fn columns(&self) -> Vec<Value> {
        let column = |c: &printers::Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
        self.printer.columns().iter().map(column).collect()
    }

    /// One object.
    pub(crate) fn row(&self, object: &Value) -> Value {
        let mut row = json!({ "cells": self.printer.row(object, self.now) });
        match self.options {
            Options::None => row["object"] = Value::Null,
            Options::Metadata => row["object"] = partial_metadata(object, &self.version),
            Options::Object => row["object"] = object.clone(),
        }
        row
    }
}
