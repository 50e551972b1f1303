//! From the claims of a token to a user.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_cel::decl::Decl;
use kedge_cel::limits::RUNTIME_COST_BUDGET;
use kedge_cel::{Budget, Env, EvalError, Expressions, Program, Type, Value as Expressed};
use kedge_meta::UserInfo;
use serde_json::{Map, Value, json};

use super::config::JwtAuthenticator;

/// What an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A text, over the claims.
    Text,
    /// A text or a list of texts, over the claims.
    Texts,
    /// A condition on the claims.
    ClaimRule,
    /// A condition on the user that is made of them.
    UserRule,
}

/// An expression, compiled.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    text: String,
    program: Program,
    /// Of the user; claims have none.
    of: Option<Arc<Decl>>,
}

impl Expression {
    pub fn compile(text: &str, of: Of) -> Result<Self, String> {
        let (builder, user) = (Env::builder(Expressions::NEW), (of == Of::UserRule).then(user_type));
        let env = match &user {
            Some(user) => builder.typed_variable("user", user).build(),
            None => builder.variable("claims", Type::map(Type::String, Type::Dyn)).build(),
        };
        let checked = env.check(text).map_err(|why| format!("compilation failed: {why}"))?;
        let is = checked.result_type();
        let fits = match of {
            Of::ClaimRule | Of::UserRule => *is == Type::Bool,
            Of::Text => matches!(is, Type::String | Type::Dyn | Type::Any),
            Of::Texts => matches!(is, Type::String | Type::Dyn | Type::Any) || matches!(is, Type::List(_)),
        };
        if !fits {
            return Err(match of {
                Of::ClaimRule | Of::UserRule => "must evaluate to bool".to_owned(),
                Of::Text => "must evaluate to string".to_owned(),
                Of::Texts => "must evaluate to one of [string list]".to_owned(),
            });
        }
        let program = checked.program().map_err(|why| format!("program instantiation failed: {why}"))?;
        Ok(Self { text: text.to_owned(), program, of: user })
    }

    fn evaluate(&self, variable: &str, data: &Value) -> Result<Value, String> {
        let budget = Budget::new(RUNTIME_COST_BUDGET);
        let evaluated = || {
            let data = match &self.of {
                Some(of) => Expressed::typed(data, of)?,
                None => Expressed::native(data),
            };
            self.program.evaluate(&vec![(variable, data)], &budget)?.to_json()
        };
        evaluated().map_err(|why: EvalError| format!("expression '{}' resulted in error: {why}", self.text))
    }

    fn holds(&self, variable: &str, data: &Value, message: &str) -> Result<(), String> {
        match self.evaluate(variable, data)? {
            Value::Bool(true) => Ok(()),
            _ if message.is_empty() => Err(format!("validation expression '{}' failed", self.text)),
            _ => Err(format!("validation expression '{}' failed: {message}", self.text)),
        }
    }
}

fn user_type() -> Arc<Decl> {
    let schema = json!({"type": "object", "properties": {
        "username": {"type": "string"},
        "uid": {"type": "string"},
        "groups": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    }});
    Arc::new(Decl::from_schema(&schema, "kubernetes.UserInfo", false))
}

/// A claim as it is, or an expression over all of them.
#[derive(Debug, Clone)]
enum Mapped {
    Nothing,
    Claim { claim: String, prefix: String },
    Expression(Expression),
}

impl Mapped {
    fn new(claim: &str, prefix: Option<&str>, expression: &str, of: Of) -> Result<Self, String> {
        Ok(match (claim, expression) {
            ("", "") => Self::Nothing,
            ("", text) => Self::Expression(Expression::compile(text, of)?),
            (claim, _) => Self::Claim { claim: claim.to_owned(), prefix: prefix.unwrap_or_default().to_owned() },
        })
    }
}

/// How tokens of an issuer are read.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    username: Mapped,
    groups: Mapped,
    uid: Mapped,
    extra: Vec<(String, Expression)>,
    required: Vec<(String, String)>,
    claim_rules: Vec<(Expression, String)>,
    user_rules: Vec<(Expression, String)>,
}

type Claims = Map<String, Value>;

impl Reader {
    pub fn new(config: &JwtAuthenticator) -> Result<Self, String> {
        let mappings = &config.claim_mappings;
        let (name, groups, uid) = (&mappings.username, &mappings.groups, &mappings.uid);
        let extra = mappings
            .extra
            .iter()
            .map(|extra| Ok((extra.key.clone(), Expression::compile(&extra.value_expression, Of::Texts)?)));
        let rules = config.claim_validation_rules.iter();
        let (required, tested): (Vec<_>, Vec<_>) = rules.partition(|rule| !rule.claim.is_empty());
        let claim_rules =
            tested.iter().map(|rule| Ok((Expression::compile(&rule.expression, Of::ClaimRule)?, rule.message.clone())));
        let user_rules = config.user_validation_rules.iter();
        let user_rules =
            user_rules.map(|rule| Ok((Expression::compile(&rule.expression, Of::UserRule)?, rule.message.clone())));
        Ok(Self {
            username: Mapped::new(&name.claim, name.prefix.as_deref(), &name.expression, Of::Text)?,
            groups: Mapped::new(&groups.claim, groups.prefix.as_deref(), &groups.expression, Of::Texts)?,
            uid: Mapped::new(&uid.claim, None, &uid.expression, Of::Text)?,
            extra: extra.collect::<Result<_, String>>()?,
            required: required.iter().map(|rule| (rule.claim.clone(), rule.required_value.clone())).collect(),
            claim_rules: claim_rules.collect::<Result<_, String>>()?,
            user_rules: user_rules.collect::<Result<_, String>>()?,
        })
    }

    /// The user that claims stand for.
    pub fn user(&self, claims: &Claims) -> Result<UserInfo, String> {
        let all = Value::Object(claims.clone());
        let mut user = UserInfo {
            name: self.name(claims, &all)?,
            groups: self.groups(claims, &all)?,
            uid: self.uid(claims, &all)?,
            extra: self.extra(&all)?,
        };
        for (claim, wanted) in &self.required {
            match claims.get(claim) {
                None => return Err(format!("required claim {claim} not present in ID token")),
                Some(Value::String(value)) if value == wanted => {}
                Some(Value::String(value)) => {
                    return Err(format!("required claim {claim} value does not match. Got = {value}, want = {wanted}"));
                }
                Some(_) => return Err(format!("parse claim {claim}: it is no string")),
            }
        }
        for (rule, message) in &self.claim_rules {
            let holds = rule.holds("claims", &all, message);
            holds.map_err(|why| format!("error evaluating claim validation expression: {why}"))?;
        }
        if !self.user_rules.is_empty() {
            let shown = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
            for (rule, message) in &self.user_rules {
                let holds = rule.holds("user", &shown, message);
                holds.map_err(|why| format!("error evaluating user info validation rule: {why}"))?;
            }
        }
        user = crate::authenticated(user);
        Ok(user)
    }

    fn name(&self, claims: &Claims, all: &Value) -> Result<String, String> {
        match &self.username {
            Mapped::Nothing => Err("no username claim is configured".to_owned()),
            Mapped::Claim { claim, prefix } => {
                let name =
                    claims.get(claim).ok_or_else(|| format!("parse username claims {claim:?}: claim not present"))?;
                let name = name.as_str().ok_or_else(|| format!("parse username claims {claim:?}: it is no string"))?;
                if claim == "email" {
                    match claims.get("email_verified") {
                        None | Some(Value::Bool(true)) => {}
                        Some(Value::Bool(false)) => return Err("email not verified".to_owned()),
                        Some(_) => return Err("parse 'email_verified' claim: it is no boolean".to_owned()),
                    }
                }
                Ok(format!("{prefix}{name}"))
            }
            Mapped::Expression(expression) => {
                let failed = |why| format!("error evaluating username claim expression: {why}");
                match expression.evaluate("claims", all).map_err(failed)? {
                    Value::String(name) if name.is_empty() => {
                        Err("empty username via CEL expression is not allowed".to_owned())
                    }
                    Value::String(name) => Ok(name),
                    _ => Err(failed("username claim expression must return a string".to_owned())),
                }
            }
        }
    }

    fn groups(&self, claims: &Claims, all: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            Mapped::Nothing => Ok(Vec::new()),
            Mapped::Claim { claim, prefix } => match claims.get(claim) {
                // Without its groups a user might be refused what it may, or be allowed what its groups may not.
                None if claims.get("_claim_names").and_then(|names| names.get(claim)).is_some() => {
                    Err(format!("groups claim {claim:?} is elsewhere, and distributed claims are not supported"))
                }
                None => Ok(Vec::new()),
                Some(value) => {
                    let all = texts(value)
                        .ok_or_else(|| format!("parse groups claim {claim:?}: it is no list of strings"))?;
                    Ok(all.into_iter().map(|group| format!("{prefix}{group}")).collect())
                }
            },
            Mapped::Expression(expression) => {
                let failed = |why| format!("error evaluating group claim expression: {why}");
                let value = expression.evaluate("claims", all).map_err(failed)?;
                some_texts(&value)
                    .ok_or_else(|| failed("expression must return a string or a list of strings".to_owned()))
            }
        }
    }

    fn uid(&self, claims: &Claims, all: &Value) -> Result<String, String> {
        match &self.uid {
            Mapped::Nothing => Ok(String::new()),
            Mapped::Claim { claim, .. } => {
                let uid = claims.get(claim).and_then(Value::as_str);
                uid.map(str::to_owned).ok_or_else(|| format!("parse uid claim {claim:?}: claim not present"))
            }
            Mapped::Expression(expression) => {
                let failed = |why| format!("error evaluating uid claim expression: {why}");
                match expression.evaluate("claims", all).map_err(failed)? {
                    Value::String(uid) => Ok(uid),
                    _ => Err(failed("uid claim expression must return a string".to_owned())),
                }
            }
        }
    }

    fn extra(&self, all: &Value) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::new();
        for (key, expression) in &self.extra {
            let failed = |why| format!("error evaluating extra claim expression: {why}");
            let value = expression.evaluate("claims", all).map_err(failed)?;
            let values = some_texts(&value)
                .ok_or_else(|| failed("expression must return a string or a list of strings".to_owned()))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        Ok(extra)
    }
}

/// One text or several.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// The same, of an expression: nothing, and empty texts, are none.
fn some_texts(value: &Value) -> Option<Vec<String>> {
    if value.is_null() {
        return Some(Vec::new());
    }
    let mut all = texts(value)?;
    all.retain(|text| !text.is_empty());
    Some(all)
}
