//! Tokens that stand in a file, each for a user: for tests, and for clusters that need no more.
//!
//! Only digests are kept, and compared, so that how long an answer takes says nothing about a token.

use std::collections::HashMap;

use async_trait::async_trait;
use kedge_meta::UserInfo;
use ring::digest::{SHA256, digest};

use crate::authenticator::TokenAuthenticator;

type Digest = [u8; 32];

/// The tokens of a file.
pub struct StaticTokens(HashMap<Digest, UserInfo>);

fn digest_of(token: &str) -> Digest {
    let mut out = Digest::default();
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

impl StaticTokens {
    /// Reads lines `token,user,uid[,"group,group"]`; of those with the same token the last counts.
    ///
    /// # Errors
    /// What is wrong, with its line; never a token.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut tokens = HashMap::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |why: &str| format!("line {}: {why}", at + 1);
            let fields = fields(line).ok_or_else(|| wrong("a quote is not closed"))?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return Err(wrong("token file must have at least 3 columns (token, user name, user uid)"));
            };
            if token.is_empty() {
                return Err(wrong("the token is empty"));
            }
            let groups = rest.first().map(|all| all.split(',').map(|one| one.trim().to_owned())).into_iter().flatten();
            let groups = groups.filter(|group| !group.is_empty()).collect();
            let user = UserInfo { name: name.clone(), uid: uid.clone(), groups, ..UserInfo::default() };
            tokens.insert(digest_of(token), user);
        }
        Ok(Self(tokens))
    }
}

/// The fields of a line of comma-separated values.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut()?.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    (!quoted).then(|| fields.into_iter().map(|field| field.trim().to_owned()).collect())
}

#[async_trait]
impl TokenAuthenticator for StaticTokens {
    async fn authenticate(&self, token: &str, _: i64) -> Result<Option<UserInfo>, String> {
        Ok(self.0.get(&digest_of(token)).cloned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_token_stands_for_the_user_of_its_line() {
        let tokens =
            StaticTokens::read("t1,jane,1\n\nt2,\"joe, the second\",2,\"dev, ops\",more\r\nt1,jim,3,\n").unwrap();
        let user = async |token| tokens.authenticate(token, 0).await.unwrap();
        assert_eq!(user("t1").await.unwrap().name, "jim");
        let joe = user("t2").await.unwrap();
        assert_eq!(
            (joe.name.as_str(), joe.uid.as_str(), joe.groups),
            ("joe, the second", "2", vec!["dev".into(), "ops".into()])
        );
        assert_eq!(user("t3").await, None);
        assert_eq!(user("").await, None);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        for (text, wanted) in [
            ("secret,jane", "line 1: token file must have"),
            ("a,b,c\nsecret,\"b,c", "line 2: a quote"),
            (",b,c", "empty"),
        ] {
            let why = StaticTokens::read(text).err().unwrap();
            assert!(why.contains(wanted) && !why.contains("secret"), "{why}");
        }
    }
}
