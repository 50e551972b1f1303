//! Walks a tree against the table as Go's decoder would read it into the type: unknown fields go (and are reported),
//! nulls count as absent, values must have the right JSON type, scalars become canonical, and presence is normalised.
//!
//! Invariants: what conforms once conforms again unchanged; the first error in the order of the tree is returned,
//! worded as Go words it.

use crate::decode::StrictError;
use crate::normalize::{finish_object, zero};
use crate::scalar;
use crate::table::{FieldDef, FieldType, TypeId, go_type, object_go_type};
use serde_json::{Map, Value};

/// A value that cannot be read into its type. The text is Go's, without the server's prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    pub message: String,
}

const MAX_STRICT_ERRORS: usize = 100;
/// Whole numbers below this are the same as floats.
const EXACT: f64 = 9_007_199_254_740_992.0;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// The field of an object's metadata that says who owns its fields.
const OWNERS: &str = "managedFields";

/// Makes `value` an object of type `ty`; what strict validation objects to is appended to `strict`.
///
/// # Errors
/// [`TypeError`] for the first value of a wrong type. The tree may then be half converted.
pub fn conform(ty: TypeId, value: &mut Value, strict: &mut Vec<StrictError>) -> Result<(), TypeError> {
    walk(ty, value, strict, Reader::Decoder)
}

/// As [`conform`], for a tree that was never text, such as what a strategic merge patch makes: upstream has a reader of its own for
/// those, which says otherwise what does not fit, and counts unknown fields in the order of their paths.
///
/// # Errors
/// [`TypeError`] for the first value of a wrong type. The tree may then be half converted.
pub fn convert(ty: TypeId, value: &mut Value, strict: &mut Vec<StrictError>) -> Result<(), TypeError> {
    let known = strict.len();
    walk(ty, value, strict, Reader::Converter)?;
    if let Some(found) = strict.get_mut(known..) {
        found.sort_by_cached_key(ToString::to_string);
    }
    Ok(())
}

fn walk(ty: TypeId, value: &mut Value, strict: &mut Vec<StrictError>, reader: Reader) -> Result<(), TypeError> {
    let Value::Object(map) = value else {
        let message = match reader {
            Reader::Decoder => {
                format!("json: cannot unmarshal {} into Go value of type {}", found(value), object_go_type(ty))
            }
            Reader::Converter => format!("cannot restore struct from: {}", go_kind(value)),
        };
        return Err(TypeError { message });
    };
    Walker { strict: Some(strict), reader }.object(ty, map, None)
}

/// Whose words errors are in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Go's decoder of JSON text.
    Decoder,
    /// Upstream's converter of trees.
    Converter,
}

/// The steps from the root to the place under inspection, linked through the stack.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    /// A field and the structure that has it.
    Field(TypeId, &'static FieldDef),
    Key(&'a str),
    Index(usize),
}

impl Place<'_> {
    fn chain(&self) -> Vec<&Place<'_>> {
        let mut chain = vec![self];
        while let Some(parent) = chain.last().and_then(|last| last.parent) {
            chain.push(parent);
        }
        chain.reverse();
        chain
    }

    /// `Container.spec.containers.image`: the innermost structure, then the Go decoder's field stack, in which
    /// embedded structures appear and list positions and map keys do not.
    fn go_field(&self) -> String {
        let mut owner = "";
        let mut path = String::new();
        for place in self.chain() {
            if let Step::Field(ty, field) = &place.step {
                owner = ty.def().short_name();
                for (embedded, _) in field.embedding() {
                    path.push('.');
                    path.push_str(embedded);
                }
                path.push('.');
                path.push_str(field.name);
            }
        }
        format!("{owner}{path}")
    }

    fn field(&self) -> Option<&'static FieldDef> {
        match (&self.step, self.parent) {
            (Step::Field(_, field), _) => Some(field),
            (_, parent) => parent.and_then(Place::field),
        }
    }

    /// How many lists and maps lie between the field and this place.
    fn levels(&self) -> usize {
        match self.step {
            Step::Field(..) => 0,
            _ => 1 + self.parent.map_or(0, Place::levels),
        }
    }

    /// The Go type that belongs at this place, with its own name where it has one.
    fn go_type(&self, ty: FieldType) -> String {
        match (self.field(), self.levels()) {
            (Some(field), 0) => field.go_type(),
            (Some(field), 1) => field.go_element_type().trim_start_matches('*').to_string(),
            _ => go_type(ty),
        }
    }
}

fn strict_path(parent: Option<&Place<'_>>, key: &str) -> String {
    let mut path = String::new();
    for place in parent.map(Place::chain).unwrap_or_default() {
        match &place.step {
            Step::Field(_, field) => crate::decode::push_key(&mut path, field.name),
            Step::Key(key) => crate::decode::push_key(&mut path, key),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    crate::decode::push_key(&mut path, key);
    path
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The kind of Go value that holds a value of a tree.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

impl Reader {
    /// A value that is not of the type that belongs in its place.
    fn mismatch(self, ty: FieldType, value: &Value, go_type: &str, place: &Place<'_>) -> TypeError {
        let message = match self {
            Self::Decoder => {
                // Of a number that does not fit, the decoder says which.
                let number =
                    matches!(ty, FieldType::Int32 | FieldType::Int64).then_some(value).and_then(Value::as_number);
                let what = number.map_or_else(|| found(value).to_owned(), |number| format!("number {number}"));
                let field = place.go_field();
                format!("json: cannot unmarshal {what} into Go struct field {field} of type {go_type}")
            }
            Self::Converter => converter_says(ty, value, go_type),
        };
        TypeError { message }
    }
}

fn converter_says(ty: FieldType, value: &Value, go_type: &str) -> String {
    let kind = go_kind(value);
    match ty {
        FieldType::Object(_) => format!("cannot restore struct from: {kind}"),
        FieldType::Map(_) => format!("cannot restore map from {kind}"),
        FieldType::List(_) | FieldType::Bytes => format!("cannot restore slice from {kind}"),
        // Types with a decoder of their own read text again, on its own.
        FieldType::IntOrString | FieldType::Time | FieldType::MicroTime | FieldType::Duration => {
            let what = value.as_number().filter(|_| ty == FieldType::IntOrString);
            let what = what.map_or_else(|| found(value).to_owned(), |number| format!("number {number}"));
            let go_type = if ty == FieldType::IntOrString { "int32" } else { "string" };
            format!("json: cannot unmarshal {what} into Go value of type {go_type}")
        }
        // Go converts whole numbers to text and numbers with a fraction to whole ones, and upstream stops it.
        FieldType::String if value.is_i64() => format!("cannot convert int64 to {go_type}"),
        FieldType::Int32 | FieldType::Int64 if value.is_number() => format!("cannot convert {kind} to {go_type}"),
        FieldType::String => "unrecognized type: string".to_owned(),
        FieldType::Bool => "unrecognized type: bool".to_owned(),
        FieldType::Int32 => "unrecognized type: int32".to_owned(),
        FieldType::Int64 => "unrecognized type: int64".to_owned(),
        _ => "unrecognized type: float64".to_owned(),
    }
}

struct Walker<'s> {
    /// Absent inside values with a decoder of their own, which does not report.
    strict: Option<&'s mut Vec<StrictError>>,
    reader: Reader,
}

impl Walker<'_> {
    fn object(
        &mut self,
        ty: TypeId,
        map: &mut Map<String, Value>,
        parent: Option<&Place<'_>>,
    ) -> Result<(), TypeError> {
        let def = ty.def();
        let mut pruned = false;
        // An object whose fields nobody shall own any more is told from one that does not say whose they are.
        if def.name == OBJECT_META
            && parent.is_none_or(|place| place.parent.is_none())
            && map.get(OWNERS).and_then(Value::as_array).is_some_and(Vec::is_empty)
        {
            map.insert(OWNERS.to_owned(), Value::Array(vec![Value::Object(Map::new())]));
        }
        for (key, value) in map.iter_mut() {
            let Some(field) = def.field(key) else {
                self.unknown(parent, key);
                pruned = true;
                continue;
            };
            if value.is_null() {
                pruned = true;
                continue;
            }
            let place = Place { parent, step: Step::Field(ty, field) };
            self.value(field.ty, value, &place)?;
        }
        if pruned {
            map.retain(|key, value| !value.is_null() && def.field(key).is_some());
        }
        finish_object(def, map);
        Ok(())
    }

    fn unknown(&mut self, parent: Option<&Place<'_>>, key: &str) {
        let Some(strict) = self.strict.as_deref_mut() else { return };
        if strict.len() < MAX_STRICT_ERRORS {
            strict.push(StrictError::UnknownField(strict_path(parent, key)));
        }
    }

    fn value(&mut self, ty: FieldType, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        match ty {
            FieldType::Object(id) => match value {
                Value::Object(map) => return self.object(id, map, Some(place)),
                other => return Err(self.reader.mismatch(ty, other, &place.go_type(ty), place)),
            },
            FieldType::List(inner) => return self.list(ty, *inner, value, place),
            FieldType::Map(inner) => return self.map(ty, *inner, value, place),
            FieldType::SchemaOrArray | FieldType::SchemaOrBool | FieldType::SchemaOrStrings => {
                return self.schema_or(ty, value, place);
            }
            FieldType::Raw | FieldType::Json | FieldType::FieldsV1 => {}
            FieldType::String if value.is_string() => {}
            FieldType::Bool if value.is_boolean() => {}
            FieldType::Double if value.is_number() => {}
            FieldType::Int32 | FieldType::Int64 => self.integer(ty, value, place)?,
            FieldType::IntOrString if value.is_string() => {}
            FieldType::IntOrString => self.integer(ty, value, place)?,
            FieldType::Quantity => {
                let canonical = scalar::quantity(value).map_err(|message| TypeError { message })?;
                *value = Value::String(canonical);
            }
            FieldType::Time | FieldType::MicroTime => self.time(ty, value, place)?,
            FieldType::Duration => self.duration(value, place)?,
            FieldType::Bytes => self.bytes(value, place)?,
            FieldType::String | FieldType::Bool | FieldType::Double => {
                return Err(self.reader.mismatch(ty, value, &place.go_type(ty), place));
            }
        }
        Ok(())
    }

    fn list(&mut self, ty: FieldType, inner: FieldType, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        let Value::Array(items) = value else {
            return Err(self.reader.mismatch(ty, value, &place.go_type(ty), place));
        };
        for (index, item) in items.iter_mut().enumerate() {
            if item.is_null() {
                *item = zero(inner);
                continue;
            }
            let place = Place { parent: Some(place), step: Step::Index(index) };
            self.value(inner, item, &place)?;
        }
        Ok(())
    }

    fn map(&mut self, ty: FieldType, inner: FieldType, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        let Value::Object(map) = value else {
            return Err(self.reader.mismatch(ty, value, &place.go_type(ty), place));
        };
        for (key, item) in map.iter_mut() {
            if item.is_null() {
                // A missing byte string comes back from the store as an empty one.
                *item = if inner == FieldType::Bytes { Value::String(String::new()) } else { zero(inner) };
                continue;
            }
            let place = Place { parent: Some(place), step: Step::Key(key) };
            self.value(inner, item, &place)?;
        }
        Ok(())
    }

    /// The schema unions of custom resource definitions decode themselves and swallow unknown fields.
    fn schema_or(&mut self, ty: FieldType, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let Some(schema) = crate::table::type_by_name(SCHEMA) else { return Ok(()) };
        let mut quiet = Walker { strict: None, reader: Reader::Decoder };
        match (ty, &mut *value) {
            (_, Value::Object(map)) => quiet.object(schema, map, Some(place)),
            (FieldType::SchemaOrBool, Value::Bool(_)) => Ok(()),
            (FieldType::SchemaOrBool, _) => Err(TypeError { message: "boolean or JSON schema expected".to_string() }),
            (FieldType::SchemaOrArray, Value::Array(_)) => quiet.list(ty, FieldType::Object(schema), value, place),
            (FieldType::SchemaOrStrings, Value::Array(_)) => quiet.list(ty, FieldType::String, value, place),
            // Anything else is read as nothing.
            (_, other) => {
                *other = Value::Null;
                Ok(())
            }
        }
    }
}

impl Walker<'_> {
    fn integer(&self, ty: FieldType, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        // A tree that YAML was read into may have whole numbers as floats; the converter takes them.
        let whole = value.as_f64().filter(|float| self.reader == Reader::Converter && float.fract() == 0.0);
        if let Some(float) = whole.filter(|float| !value.is_i64() && float.abs() < EXACT) {
            *value = (float as i64).into();
        }
        let fits = match (ty, value.as_i64()) {
            (FieldType::Int64, integer) => integer.is_some(),
            // Upstream's converter cuts off what is too large; here that is refused as its other conversions are.
            (_, integer) => integer.is_some_and(|integer| i32::try_from(integer).is_ok()),
        };
        if fits {
            return Ok(());
        }
        let (ty, go_type) = match (ty, self.reader) {
            (FieldType::IntOrString, Reader::Decoder) => (FieldType::Int32, "int32".to_owned()),
            _ => (ty, place.go_type(ty)),
        };
        Err(self.reader.mismatch(ty, value, &go_type, place))
    }

    fn duration(&self, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        let nanos = value.as_str().and_then(kedge_base::time::go_duration_nanos);
        let nanos = nanos.ok_or_else(|| {
            self.reader.mismatch(FieldType::Duration, value, &place.go_type(FieldType::Duration), place)
        })?;
        *value = Value::String(kedge_base::time::go_duration_text(nanos));
        Ok(())
    }

    fn time(&self, ty: FieldType, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        let Value::String(text) = value else {
            return Err(self.reader.mismatch(ty, value, "string", place));
        };
        match scalar::time(text, ty == FieldType::MicroTime).map_err(|message| TypeError { message })? {
            Some(canonical) if canonical == *text => {}
            Some(canonical) => *text = canonical,
            None => *value = Value::Null,
        }
        Ok(())
    }

    fn bytes(&self, value: &mut Value, place: &Place<'_>) -> Result<(), TypeError> {
        let Value::String(text) = value else {
            return Err(self.reader.mismatch(FieldType::Bytes, value, &place.go_type(FieldType::Bytes), place));
        };
        let canonical = scalar::base64_text(text).map_err(|message| match self.reader {
            Reader::Decoder => TypeError { message },
            Reader::Converter => TypeError { message: format!("error decoding from json: {message}") },
        })?;
        if let Some(canonical) = canonical {
            *text = canonical;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(group: &str, kind: &str, mut value: Value) -> (Result<(), TypeError>, Value, Vec<String>) {
        let mut strict = Vec::new();
        let result = conform(crate::table::kind(group, "v1", kind).unwrap(), &mut value, &mut strict);
        (result, value, strict.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn embedded_structures_appear_in_errors() {
        let (result, ..) = read("", "Pod", json!({"spec": {"volumes": [{"name": "v", "emptyDir": 1}]}}));
        assert_eq!(
            result.unwrap_err().message,
            "json: cannot unmarshal number into Go struct field \
             Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource"
        );
    }

    #[test]
    fn named_types_appear_in_errors() {
        let (result, ..) = read("", "Pod", json!({"spec": {"restartPolicy": 1}}));
        assert!(result.unwrap_err().message.ends_with("PodSpec.spec.restartPolicy of type v1.RestartPolicy"));
        let (result, ..) = read("", "Pod", json!({"spec": {"containers": [{"resources": {"limits": []}}]}}));
        assert!(result.unwrap_err().message.ends_with("of type v1.ResourceList"));
        let (result, ..) = read("", "Service", json!({"spec": {"ports": [{"targetPort": {}}]}}));
        assert_eq!(
            result.unwrap_err().message,
            "json: cannot unmarshal object into Go struct field ServicePort.spec.ports.targetPort of type int32"
        );
        let (result, ..) = read("apps", "Deployment", json!({"spec": {"replicas": "1"}}));
        assert_eq!(
            result.unwrap_err().message,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
    }

    /// What a strategic merge patch makes was refused in the words of the reader of JSON text.
    #[test]
    fn trees_are_refused_in_the_words_of_the_converter() {
        let says = |group: &str, kind: &str, mut tree: Value| {
            let ty = crate::table::kind(group, "v1", kind).unwrap();
            convert(ty, &mut tree, &mut Vec::new()).unwrap_err().message
        };
        let cases = [
            ("", "Pod", json!({"spec": "x"}), "cannot restore struct from: string"),
            ("", "Pod", json!({"spec": {"containers": {}}}), "cannot restore slice from map"),
            ("", "Pod", json!({"metadata": {"labels": "x"}}), "cannot restore map from string"),
            ("", "Pod", json!({"metadata": {"labels": {"a": 1}}}), "cannot convert int64 to string"),
            ("", "Pod", json!({"metadata": {"labels": {"a": true}}}), "unrecognized type: string"),
            ("", "Pod", json!({"spec": {"restartPolicy": 1}}), "cannot convert int64 to v1.RestartPolicy"),
            ("apps", "Deployment", json!({"spec": {"replicas": "1"}}), "unrecognized type: int32"),
            ("apps", "Deployment", json!({"spec": {"replicas": 1.5}}), "cannot convert float64 to int32"),
            ("apps", "Deployment", json!({"spec": {"paused": "x"}}), "unrecognized type: bool"),
            ("", "Secret", json!({"data": {"a": 1}}), "cannot restore slice from int64"),
            (
                "",
                "Service",
                json!({"spec": {"ports": [{"targetPort": {}}]}}),
                "json: cannot unmarshal object into Go value of type int32",
            ),
            (
                "",
                "Pod",
                json!({"status": {"startTime": 1}}),
                "json: cannot unmarshal number into Go value of type string",
            ),
        ];
        for (group, kind, tree, text) in cases {
            assert_eq!(says(group, kind, tree.clone()), text, "{tree}");
        }
        let mut tree = json!({"spec": {"replicas": 2.0, "zzz": 1, "aaa": 2}});
        let mut strict = Vec::new();
        convert(crate::table::kind("apps", "v1", "Deployment").unwrap(), &mut tree, &mut strict).unwrap();
        assert_eq!(tree["spec"]["replicas"], 2);
        let paths: Vec<String> = strict.iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["unknown field \"spec.aaa\"", "unknown field \"spec.zzz\""]);
    }

    #[test]
    fn unknown_fields_go_and_opaque_values_stay() {
        let object = json!({"data": {"x": {"y": null, "z": 1}}, "revision": 1, "what": 1});
        let (result, value, strict) = read("apps", "ControllerRevision", object);
        result.unwrap();
        assert_eq!(strict, ["unknown field \"what\""]);
        assert_eq!(value["data"], json!({"x": {"y": null, "z": 1}}));
    }

    #[test]
    fn nulls_are_absent_and_scalars_canonical() {
        let object = json!({"metadata": {"labels": null, "annotations": {"a": null}},
            "data": {"k": null, "l": "aGk="}, "type": null});
        let (result, value, strict) = read("", "Secret", object);
        result.unwrap();
        assert!(strict.is_empty());
        assert_eq!(value, json!({"metadata": {"annotations": {"a": ""}}, "data": {"k": "", "l": "aGk="}}));
        let (_, value, _) = read("", "ResourceQuota", json!({"spec": {"hard": {"memory": "2048Mi", "cpu": 2}}}));
        assert_eq!(value["spec"]["hard"], json!({"memory": "2Gi", "cpu": "2"}));
    }

    /// They were kept as they came, so that an object that came back from protobuf was another one; below nothing it even lost its sign.
    #[test]
    fn durations_are_written_as_go_writes_them() {
        let metrics = |window: &str| json!({"metadata": {}, "timestamp": null, "window": window, "usage": {}});
        let ty = crate::kind("metrics.k8s.io", "v1beta1", "NodeMetrics").unwrap();
        for (text, canonical) in [("90s", "1m30s"), ("-1.5s", "-1.5s"), ("0", "0s"), ("1000ms", "1s")] {
            let mut value = metrics(text);
            conform(ty, &mut value, &mut Vec::new()).unwrap();
            assert_eq!(value["window"], canonical);
            let mut raw = Vec::new();
            crate::encode::protobuf::write_protobuf(ty, &value, &mut raw).unwrap();
            assert_eq!(crate::protobuf::decode(ty, &raw).unwrap()["window"], canonical);
        }
        assert!(conform(ty, &mut metrics("2562048h"), &mut Vec::new()).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let keys = prop_oneof![
            "metadata|spec|containers|name|env|template|status|items|labels|resources|limits|ports|data|type",
            "[a-z]{0,4}"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys.clone(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_panics_and_settles(value in any_json(), at in 0usize..200) {
            let resources = crate::resources();
            let ty = resources[at % resources.len()].schema.builtin().unwrap();
            let mut once = value;
            let mut strict = Vec::new();
            if conform(ty, &mut once, &mut strict).is_ok() {
                let mut twice = once.clone();
                let mut again = Vec::new();
                prop_assert!(conform(ty, &mut twice, &mut again).is_ok());
                prop_assert_eq!(once, twice);
                prop_assert!(again.is_empty());
            }
        }
    }
}
