//! Comprehensions.

use super::Fold;
use super::evaluate::{Evaluator, Slot};
use super::go_type;
use crate::error::EvalError;
use crate::value::{Evaluated, Value};

impl<'a> Evaluator<'_, 'a, '_, '_> {
    #[inline(never)]
    pub(super) fn fold(&mut self, fold: &Fold) -> Evaluated<'a> {
        let range = self.node(fold.range)?;
        self.set(fold.accumulator, Slot::Pending(fold.init));
        match range {
            Value::List(list) => {
                for n in 0..list.len() {
                    let Some(element) = list.get(n) else { break };
                    let variables = if fold.second.is_some() {
                        (Ok(Value::Int(n as i64)), element)
                    } else {
                        (element, Ok(Value::Null))
                    };
                    if !self.iterate(fold, variables)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                let keys = map.keys();
                self.context.step(keys.len())?;
                for key in keys {
                    let value = match (fold.second, map.find(&key)) {
                        (Some(_), Some(value)) => value,
                        _ => Ok(Value::Null),
                    };
                    if !self.iterate(fold, (Ok(key), value))? {
                        break;
                    }
                }
            }
            other if fold.second.is_some() => {
                return Err(EvalError::new(format!("unsupported comprehension range type: {}", go_type(&other))));
            }
            other => return Err(EvalError::new(format!("got '{}', expected iterable type", go_type(&other)))),
        }
        self.set(fold.variable, Slot::Empty);
        let result = self.node(fold.result);
        self.set(fold.accumulator, Slot::Empty);
        result
    }

    fn set(&mut self, slot: usize, content: Slot<'a>) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = content;
        }
    }

    /// One element; says whether there may be more. Errors of an element are in the accumulator.
    fn iterate(&mut self, fold: &Fold, variables: (Evaluated<'a>, Evaluated<'a>)) -> Result<bool, EvalError> {
        self.context.iteration()?;
        self.set(fold.variable, Slot::Value(variables.0));
        if let Some(second) = fold.second {
            self.set(second, Slot::Value(variables.1));
        }
        match self.node(fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(error) if error.is_final() => return Err(error),
            _ => {}
        }
        let value = self.node(fold.step);
        if let Err(error) = &value
            && error.is_final()
        {
            return Err(error.clone());
        }
        self.set(fold.accumulator, Slot::Value(value));
        Ok(true)
    }
}
