//! Order.

use std::cmp::Ordering;

use super::Value;
use super::number::{double_with_int, double_with_uint, int_with_uint};
use crate::error::EvalError;

impl Value<'_> {
    /// How two values are ordered, if they are.
    ///
    /// # Errors
    /// They are of kinds that have no common order, or one is no number.
    pub fn compare(&self, other: &Value<'_>) -> Result<Ordering, EvalError> {
        let ordered = match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
            (Value::Int(a), Value::Uint(b)) => Some(int_with_uint(*a, *b)),
            (Value::Uint(a), Value::Int(b)) => Some(int_with_uint(*b, *a).reverse()),
            (Value::Double(a), Value::Int(b)) => double_with_int(*a, *b),
            (Value::Int(a), Value::Double(b)) => double_with_int(*b, *a).map(Ordering::reverse),
            (Value::Double(a), Value::Uint(b)) => double_with_uint(*a, *b),
            (Value::Uint(a), Value::Double(b)) => double_with_uint(*b, *a).map(Ordering::reverse),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            _ => return Err(EvalError::no_such_overload()),
        };
        ordered.ok_or_else(|| EvalError::new("NaN values cannot be ordered"))
    }

    /// Whether there is an order among values of this kind.
    pub(crate) fn is_comparable(&self) -> bool {
        matches!(
            self,
            Value::Bool(_)
                | Value::Int(_)
                | Value::Uint(_)
                | Value::Double(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::Duration(_)
                | Value::Timestamp(_)
        )
    }
}
