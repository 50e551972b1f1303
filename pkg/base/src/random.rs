//! Randomness: identifiers, name suffixes, secrets.

use ring::rand::{SecureRandom, SystemRandom};

/// `N` unpredictable bytes.
///
/// # Panics
/// When the kernel has no randomness to give, which no caller could do anything about.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[allow(clippy::expect_used)]
    SystemRandom::new().fill(&mut out).expect("the kernel's random source answers");
    out
}

/// A random number.
pub fn u64() -> u64 {
    u64::from_ne_bytes(bytes())
}

/// The letters and digits of generated names: no vowels, so no words; no easily confused digits.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// `len` characters as Kubernetes appends them to `generateName`.
pub fn name_suffix(len: usize) -> String {
    (0..len).map(|_| char::from(SUFFIX_ALPHABET[(u64() % 27) as usize])).collect()
}

/// A random (version 4) UUID in its usual text form.
pub fn uuid() -> String {
    let mut b: [u8; 16] = bytes();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|x| format!("{x:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_version_4() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert_ne!(id, uuid());
    }

    #[test]
    fn suffixes_have_the_length_asked_for() {
        assert_eq!(name_suffix(5).len(), 5);
    }
}
