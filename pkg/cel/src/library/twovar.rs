//! What comprehensions that make maps do for each entry.

use std::sync::Arc;

use crate::error::EvalError;
use crate::functions::Functions;
use crate::value::{Key, Map, OwnedMap, Value, plain};

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("@mapInsert_map_key_value", "cel.@mapInsert(map<K, V>, K, V) -> map<K, V>", |context, args| {
        let [map, key, value] = args else { return Err(EvalError::no_such_overload()) };
        let mut own = taken(context, map)?;
        insert(Arc::make_mut(&mut own), key.clone(), value.clone())?;
        Ok(Value::Map(Map::Owned(own)))
    });
    functions.declare("@mapInsert_map_map", "cel.@mapInsert(map<K, V>, map<K, V>) -> map<K, V>", |context, args| {
        let [map, Value::Map(more)] = args else { return Err(EvalError::no_such_overload()) };
        let more = more.clone();
        let mut own = taken(context, map)?;
        context.step(more.len())?;
        let target = Arc::make_mut(&mut own);
        for (key, value) in more.entries() {
            insert(target, key, value?)?;
        }
        Ok(Value::Map(Map::Owned(own)))
    });
}

/// The map that grows; it is copied only if somebody else has it as well.
fn taken<'a>(context: &mut crate::context::Context<'_>, map: &mut Value<'a>) -> Result<Arc<OwnedMap<'a>>, EvalError> {
    match std::mem::replace(map, Value::Null) {
        Value::Map(Map::Owned(own)) => {
            context.step(if Arc::strong_count(&own) == 1 { 1 } else { own.len() })?;
            Ok(own)
        }
        Value::Map(other) => {
            context.step(other.len())?;
            let mut own = OwnedMap::default();
            for (key, value) in other.entries() {
                insert(&mut own, key, value?)?;
            }
            Ok(Arc::new(own))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn insert<'a>(map: &mut OwnedMap<'a>, key: Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
    let key = Key::new(key)?;
    if map.find(&key).is_some() {
        return Err(EvalError::new(format!("insert failed: key {} already exists", plain(&key.value()))));
    }
    map.insert(key, value);
    Ok(())
}
