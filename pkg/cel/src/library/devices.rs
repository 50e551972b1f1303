//! What selectors of devices have: attributes are one value or a list, and `includes` does not mind which.

use crate::error::EvalError;
use crate::functions::Functions;
use crate::value::Value;

/// Longer lists are no attributes.
const MAX_VALUES: usize = 48;

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("dra_includes_dyn_dyn", "dyn.includes(dyn) -> bool", |_, args| {
        let [target, wanted] = args else { return Err(EvalError::no_such_overload()) };
        let Value::List(list) = target else { return Ok(Value::Bool(target.equals(wanted) == Ok(true))) };
        for (n, element) in list.iter().enumerate() {
            if n >= MAX_VALUES {
                return Err(EvalError::new(format!(
                    "'includes' function cannot be applied to lists longer than {MAX_VALUES} values"
                )));
            }
            if element?.equals(wanted) == Ok(true) {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    });
}
