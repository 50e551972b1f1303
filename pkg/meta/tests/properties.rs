//! What is shown is read again as what it was: selectors and quantities.
#![allow(clippy::unwrap_used)]

use kedge_meta::labels::{Operator, Requirement};
use kedge_meta::quantity::Quantity;
use kedge_meta::{StringMap, fields, labels};
use proptest::prelude::*;

fn key() -> impl Strategy<Value = String> {
    let name = "[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,5}[a-zA-Z0-9])?";
    // Words of the grammar are keys like others.
    prop_oneof![
        3 => name.prop_map(String::from),
        1 => ("[a-z0-9]{1,3}(\\.[a-z0-9]{1,3})?", name).prop_map(|(prefix, name)| format!("{prefix}/{name}")),
        1 => prop::sample::select(vec!["in", "notin", "a", "b"]).prop_map(String::from),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,4}[a-zA-Z0-9])?", "[0-9]{1,4}", "in|notin|a|b"]
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operator = prop::sample::select(vec![
        Operator::In,
        Operator::NotIn,
        Operator::Exists,
        Operator::DoesNotExist,
        Operator::Gt,
        Operator::Lt,
    ]);
    (key(), operator, prop::collection::vec(value(), 1..4), 0..2_000_u32).prop_map(|(key, operator, values, number)| {
        let values = match operator {
            Operator::In | Operator::NotIn => values,
            Operator::Exists | Operator::DoesNotExist => Vec::new(),
            Operator::Gt | Operator::Lt => vec![number.to_string()],
        };
        Requirement::new(&key, operator, values).unwrap()
    })
}

/// What upstream's documentation says of each operator, without any of the ways in which it is done fast.
fn naively(requirement: &Requirement, value: Option<&str>) -> bool {
    let values: Vec<&str> = requirement.values.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<i64>().ok();
    match requirement.operator {
        Operator::In => value.is_some_and(|value| values.contains(&value)),
        Operator::NotIn => value.is_none_or(|value| !values.contains(&value)),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => value.and_then(number).zip(number(values[0])).is_some_and(|(is, than)| is > than),
        Operator::Lt => value.and_then(number).zip(number(values[0])).is_some_and(|(is, than)| is < than),
    }
}

proptest! {
    #[test]
    fn a_label_selector_is_read_as_it_was_shown(requirements in prop::collection::vec(requirement(), 0..5)) {
        let selector = labels::Selector::from_requirements(requirements);
        prop_assert_eq!(labels::Selector::parse(&selector.to_string()).unwrap(), selector);
    }

    /// Many requirements are looked up in another way than few.
    #[test]
    fn a_label_selector_matches_what_each_of_its_requirements_does(
        requirements in prop::collection::vec(requirement(), 0..24),
        set in prop::collection::btree_map(key(), value(), 0..6),
    ) {
        let set: StringMap = set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let wanted = requirements.iter().all(|requirement| naively(requirement, set.get(&requirement.key)));
        prop_assert_eq!(labels::Selector::from_requirements(requirements).matches(&set), wanted);
    }

    #[test]
    fn no_text_makes_a_selector_panic(text in "[a-c=!<>(), inot/.\\\\é-]{0,24}") {
        if let Ok(selector) = labels::Selector::parse(&text) {
            prop_assert_eq!(labels::Selector::parse(&selector.to_string()).unwrap(), selector);
        }
        let _ = fields::Selector::parse(&text);
    }

    #[test]
    fn a_field_selector_has_the_values_that_were_escaped(
        terms in prop::collection::vec(("[a-z.]{1,6}", "[a-c,=\\\\ é]{0,6}", any::<bool>()), 0..5),
    ) {
        let escape = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let term = |(field, value, equal): &(String, String, bool)| {
            format!("{field}{}{}", if *equal { "=" } else { "!=" }, escape(value))
        };
        let text = terms.iter().map(term).collect::<Vec<_>>().join(",");
        let read = fields::Selector::parse(&text).unwrap().requirements;
        let read: Vec<_> = read.into_iter().map(|r| (r.field, r.value, r.equal)).collect();
        prop_assert_eq!(read, terms);
    }

    #[test]
    fn a_quantity_is_read_as_it_was_shown(number in "-?[0-9]{1,12}(\\.[0-9]{0,9})?", suffix in "|n|u|m|k|M|G|T|Ki|Mi|Gi|Ti|e-?[0-6]") {
        let text = format!("{number}{suffix}");
        let quantity = Quantity::parse(&text).unwrap();
        let shown = quantity.to_string();
        prop_assert_eq!(Quantity::parse(&shown).unwrap(), quantity, "{} is shown as {}", text, shown);
    }

    /// Sums are those of numbers, and the order is theirs.
    #[test]
    fn quantities_are_numbers(a in any::<i32>(), b in any::<i32>()) {
        let (a, b) = (i64::from(a), i64::from(b));
        let (left, right) = (Quantity::from_millis(a), Quantity::from_millis(b));
        prop_assert_eq!(left.add(&right).milli_value(), a + b);
        prop_assert_eq!(left.sub(&right).milli_value(), a - b);
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        // Away from zero.
        prop_assert_eq!(left.value(), a.signum() * a.unsigned_abs().div_ceil(1_000).cast_signed());
    }

    #[test]
    fn no_text_makes_a_quantity_panic(text in "[-+0-9.eEinumkKMGTPi ]{0,20}") {
        if let Ok(quantity) = Quantity::parse(&text) {
            prop_assert_eq!(Quantity::parse(&quantity.to_string()).unwrap(), quantity);
        }
    }
}
