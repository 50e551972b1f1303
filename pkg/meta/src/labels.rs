//! Label selectors: the query form `a=b,c in (d,e),!f` and the structured `LabelSelector`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::{StringMap, names};

/// Most requirements that one selector may have.
const MAX_REQUIREMENTS: usize = 1_000;

/// From so many requirements on, labels are looked up in an index of them.
const MANY: usize = 16;

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// One condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: BTreeSet<String>,
}

/// All requirements must hold. Without any, everything matches, unless the selector is the one for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// A selector that cannot be read. The message is upstream's where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

impl Requirement {
    /// Checks key and values.
    ///
    /// # Errors
    /// When the key is no label key, a value no label value, or the count of values does not fit the operator.
    pub fn new(key: &str, operator: Operator, values: impl IntoIterator<Item = String>) -> Result<Self, ParseError> {
        let values: BTreeSet<_> = values.into_iter().collect();
        if let [first, ..] = names::is_qualified_name(key).as_slice() {
            return Err(ParseError(format!("key: Invalid value: {key:?}: {first}")));
        }
        let count_fits = match operator {
            Operator::In | Operator::NotIn => !values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => values.is_empty(),
            Operator::Gt | Operator::Lt => values.len() == 1,
        };
        if !count_fits {
            let want = match operator {
                Operator::In | Operator::NotIn => "for 'in', 'notin' operators, values set can't be empty",
                Operator::Exists | Operator::DoesNotExist => "values set must be empty for exists and does not exist",
                Operator::Gt | Operator::Lt => "for 'Gt', 'Lt' operators, exactly one value is required",
            };
            return Err(ParseError(format!("values: Invalid value: {:?}: {want}", Vec::from_iter(&values))));
        }
        if let (Operator::Gt | Operator::Lt, Some(value)) = (operator, values.first())
            && value.parse::<i64>().is_err()
        {
            let want = "for 'Gt', 'Lt' operators, the value must be an integer";
            return Err(ParseError(format!("values[0]: Invalid value: {value:?}: {want}")));
        }
        for value in &values {
            if let [first, ..] = names::is_valid_label_value(value).as_slice() {
                return Err(ParseError(format!("values[0][{key}]: Invalid value: {value:?}: {first}")));
            }
        }
        Ok(Self { key: key.to_owned(), operator, values })
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        match (self.operator, value) {
            (Operator::In, v) => v.is_some_and(|v| self.values.contains(v)),
            (Operator::NotIn, v) => !v.is_some_and(|v| self.values.contains(v)),
            (Operator::Exists, v) => v.is_some(),
            (Operator::DoesNotExist, v) => v.is_none(),
            (Operator::Gt | Operator::Lt, None) => false,
            (op, Some(v)) => match (number(v), self.values.first().and_then(|w| number(w))) {
                (Some(have), Some(want)) => (op == Operator::Gt && have > want) || (op == Operator::Lt && have < want),
                _ => false,
            },
        }
    }
}

impl Selector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// From requirements.
    pub fn from_requirements(requirements: Vec<Requirement>) -> Self {
        Self { requirements, nothing: false }
    }

    /// From a map of exact values, as in a Service or ReplicationController.
    pub fn from_map(map: &StringMap) -> Self {
        let exact = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            operator: Operator::In,
            values: BTreeSet::from([value.to_owned()]),
        };
        Self::from_requirements(map.iter().map(exact).collect())
    }

    /// Reads the query form.
    ///
    /// # Errors
    /// When the text does not follow the grammar or a key or value is not allowed.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text)
    }

    /// From a structured `LabelSelector`: absent (`null`) selects nothing, empty selects everything.
    ///
    /// # Errors
    /// When an expression has an unknown operator or wrong values.
    pub fn from_label_selector(selector: &Value) -> Result<Self, ParseError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        if let Some(map) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in map {
                let value = value.as_str().unwrap_or_default().to_owned();
                requirements.push(Requirement::new(key, Operator::In, [value])?);
            }
        }
        if let Some(list) = selector.get("matchExpressions").and_then(Value::as_array) {
            for expression in list {
                requirements.push(expression_requirement(expression)?);
            }
        }
        Ok(Self::from_requirements(requirements))
    }

    /// Whether it matches whatever there is.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The single requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether a set of labels matches.
    pub fn matches(&self, labels: &StringMap) -> bool {
        if self.requirements.len() < MANY {
            return self.matches_with(|key| labels.get(key));
        }
        // Each look-up walks the map: of many it is walked once.
        let labels: BTreeMap<&str, &str> = labels.iter().collect();
        self.matches_with(|key| labels.get(key).copied())
    }

    /// The same, with the labels behind a look-up.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }
}

fn expression_requirement(expression: &Value) -> Result<Requirement, ParseError> {
    let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
    let operator = match expression.get("operator").and_then(Value::as_str).unwrap_or_default() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        other => {
            return Err(ParseError(format!("{other:?} is not a valid label selector operator")));
        }
    };
    let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
    Requirement::new(key, operator, values.filter_map(Value::as_str).map(str::to_owned))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let values = || r.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            match r.operator {
                Operator::In if r.values.len() == 1 => write!(f, "{}={}", r.key, values())?,
                Operator::In => write!(f, "{} in ({})", r.key, values())?,
                Operator::NotIn if r.values.len() == 1 => write!(f, "{}!={}", r.key, values())?,
                Operator::NotIn => write!(f, "{} notin ({})", r.key, values())?,
                Operator::Exists => f.write_str(&r.key)?,
                Operator::DoesNotExist => write!(f, "!{}", r.key)?,
                Operator::Gt => write!(f, "{}>{}", r.key, values())?,
                Operator::Lt => write!(f, "{}<{}", r.key, values())?,
            }
        }
        Ok(())
    }
}

mod parser {
    //! A tokenizer and a recursive-descent parser of the query form.

    use super::{MAX_REQUIREMENTS, Operator, ParseError, Requirement, Selector};

    #[derive(Debug, Clone, PartialEq)]
    enum Token<'a> {
        Word(&'a str),
        Symbol(&'a str),
        End,
    }

    struct Lexer<'a> {
        text: &'a str,
    }

    impl<'a> Lexer<'a> {
        fn peek(&self) -> Token<'a> {
            self.clone_lexer().next()
        }

        fn clone_lexer(&self) -> Self {
            Self { text: self.text }
        }

        fn next(&mut self) -> Token<'a> {
            self.text = self.text.trim_start();
            if self.text.is_empty() {
                return Token::End;
            }
            for symbol in ["==", "!=", "=", "!", "(", ")", ",", ">", "<"] {
                if let Some(rest) = self.text.strip_prefix(symbol) {
                    self.text = rest;
                    return Token::Symbol(symbol);
                }
            }
            let special = |c: char| c.is_whitespace() || "=!(),<>".contains(c);
            let end = self.text.find(special).unwrap_or(self.text.len());
            let (word, rest) = self.text.split_at(end);
            self.text = rest;
            Token::Word(word)
        }
    }

    fn found(token: &Token<'_>) -> String {
        match token {
            Token::Word(w) | Token::Symbol(w) => (*w).to_owned(),
            Token::End => String::new(),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Selector, ParseError> {
        let mut lexer = Lexer { text };
        let mut requirements = Vec::new();
        let fail = |message: String| ParseError(format!("unable to parse requirement: {message}"));
        if lexer.peek() == Token::End {
            return Ok(Selector::everything());
        }
        loop {
            match lexer.peek() {
                Token::Word(_) | Token::Symbol("!") => {}
                other if requirements.is_empty() => {
                    let expected = "!, identifier, or 'end of string'";
                    return Err(ParseError(format!("found '{}', expected: {expected}", found(&other))));
                }
                other => {
                    return Err(ParseError(format!("found '{}', expected: identifier after ','", found(&other))));
                }
            }
            if requirements.len() >= MAX_REQUIREMENTS {
                return Err(ParseError(format!("a selector may have at most {MAX_REQUIREMENTS} requirements")));
            }
            requirements.push(requirement(&mut lexer).map_err(|e| fail(e.0))?);
            match lexer.next() {
                Token::End => return Ok(Selector::from_requirements(requirements)),
                Token::Symbol(",") => {}
                other => {
                    return Err(ParseError(format!("found '{}', expected: ',' or 'end of string'", found(&other))));
                }
            }
        }
    }

    fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, ParseError> {
        let negated = lexer.peek() == Token::Symbol("!");
        if negated {
            lexer.next();
        }
        let key = match lexer.next() {
            Token::Word(word) => word,
            other => {
                return Err(ParseError(format!("found '{}', expected: !, identifier, or ','", found(&other))));
            }
        };
        if let [first, ..] = crate::names::is_qualified_name(key).as_slice() {
            return Err(ParseError(format!("<nil>: Invalid value: {key:?}: {first}")));
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, []);
        }
        match lexer.peek() {
            Token::End | Token::Symbol(",") => Requirement::new(key, Operator::Exists, []),
            Token::Word(word @ ("in" | "notin")) => {
                lexer.next();
                let operator = if word == "in" { Operator::In } else { Operator::NotIn };
                Requirement::new(key, operator, set(lexer)?)
            }
            Token::Symbol(symbol @ ("=" | "==" | "!=" | ">" | "<")) => {
                lexer.next();
                let operator = match symbol {
                    "!=" => Operator::NotIn,
                    ">" => Operator::Gt,
                    "<" => Operator::Lt,
                    _ => Operator::In,
                };
                Requirement::new(key, operator, [exact(lexer)?])
            }
            other => {
                let operators = "in, notin, =, ==, !=, gt, lt";
                Err(ParseError(format!("found '{}', expected: {operators}", found(&other))))
            }
        }
    }

    fn exact(lexer: &mut Lexer<'_>) -> Result<String, ParseError> {
        match lexer.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                lexer.next();
                Ok(word.to_owned())
            }
            other => Err(ParseError(format!("found '{}', expected: identifier", found(&other)))),
        }
    }

    fn set(lexer: &mut Lexer<'_>) -> Result<Vec<String>, ParseError> {
        match lexer.next() {
            Token::Symbol("(") => {}
            other => {
                return Err(ParseError(format!("found '{}' expected: '('", found(&other))));
            }
        }
        let mut values = Vec::new();
        loop {
            match lexer.next() {
                Token::Word(word) => {
                    values.push(word.to_owned());
                    match lexer.next() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => return Ok(values),
                        other => {
                            return Err(ParseError(format!("found '{}', expected: ',' or ')'", found(&other))));
                        }
                    }
                }
                Token::Symbol(",") => values.push(String::new()),
                Token::Symbol(")") => {
                    values.push(String::new());
                    return Ok(values);
                }
                other => {
                    return Err(ParseError(format!("found '{}', expected: ',', ')' or identifier", found(&other))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> StringMap {
        pairs.iter().copied().collect()
    }

    #[test]
    fn the_query_form_matches_as_upstream_says() {
        let set = labels(&[("app", "web"), ("tier", "front"), ("n", "5")]);
        for yes in [
            "",
            "app=web",
            "app==web,tier!=back",
            "app in (web, api)",
            "app notin (x)",
            "app,!gone",
            "n>4",
            "gone!=x",
            "x notin (y)",
        ] {
            assert!(Selector::parse(yes).unwrap().matches(&set), "{yes}");
        }
        for no in ["app=api", "!app", "gone", "app in (x,y)", "n<5", "app="] {
            assert!(!Selector::parse(no).unwrap().matches(&set), "{no}");
        }
        for bad in ["app in web", "app in (a", "=a", "a=b,,", "a b", "x!", "_=a", "a=b/c"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }

    /// Somebody's label selector of a thousand terms would otherwise be looked up by walking a thousand labels for each.
    #[test]
    fn many_requirements_match_as_few_do() {
        let names: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
        let mut all: StringMap = names.iter().map(|name| (name.as_str(), "v")).collect();
        let selector = Selector::from_map(&all);
        assert!(selector.matches(&all));
        all.insert("k49", "w");
        assert!(!selector.matches(&all));
    }

    #[test]
    fn display_reads_back_the_same() {
        let text = "a=b,c in (d,e),!f,g,h!=i,j>4";
        let selector = Selector::parse(text).unwrap();
        assert_eq!(selector.to_string(), text);
        assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn a_missing_selector_selects_nothing_and_an_empty_one_everything() {
        let set = labels(&[("a", "b")]);
        assert!(!Selector::from_label_selector(&Value::Null).unwrap().matches(&set));
        assert!(Selector::from_label_selector(&serde_json::json!({})).unwrap().matches(&set));
    }
}
