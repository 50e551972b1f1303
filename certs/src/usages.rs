//! What certificates may be used for: the names of the certificates API, and what certificates say.

use yasna::DERWriterSeq;
use yasna::models::ObjectIdentifier;

use crate::sign::{SignError, write_extension};

/// What a certificate may be used for, by the names of the certificates API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usages {
    /// Bits of the extension, the first being `digital signature`.
    key: u16,
    /// Places in [`EXTENDED`], in order and each once.
    extended: Vec<usize>,
}

/// By name: the bit of the usage.
const KEY: [(&str, u16); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// By names, in the order in which they are written.
const EXTENDED: [(&[&str], &[u64]); 12] = [
    (&["any"], &[2, 5, 29, 37, 0]),
    (&["server auth"], &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    (&["client auth"], &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    (&["code signing"], &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    (&["email protection", "s/mime"], &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    (&["ipsec end system"], &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    (&["ipsec tunnel"], &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    (&["ipsec user"], &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    (&["timestamping"], &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    (&["ocsp signing"], &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    (&["microsoft sgc"], &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    (&["netscape sgc"], &[2, 16, 840, 1, 113_730, 4, 1]),
];

impl Usages {
    /// Those with these names.
    ///
    /// # Errors
    /// When there is no usage of a name.
    pub fn parse(names: &[String]) -> Result<Self, SignError> {
        let (mut key, mut extended, mut unknown) = (0, Vec::new(), Vec::new());
        for name in names {
            if let Some((_, bit)) = KEY.iter().find(|(known, _)| known == name) {
                key |= 1 << bit;
            } else if let Some(at) = EXTENDED.iter().position(|(known, _)| known.contains(&name.as_str())) {
                extended.push(at);
            } else {
                unknown.push(name.clone());
            }
        }
        extended.sort_unstable();
        extended.dedup();
        if unknown.is_empty() { Ok(Self { key, extended }) } else { Err(SignError::Usages(unknown)) }
    }

    /// Writes the extensions that say so.
    pub(crate) fn write(&self, w: &mut DERWriterSeq<'_>) {
        if self.key != 0 {
            write_extension(w, &[2, 5, 29, 15], true, |w| {
                let bits = self.key.reverse_bits().to_be_bytes();
                let length = 16 - self.key.leading_zeros() as usize;
                w.write_bitvec_bytes(&bits[..length.div_ceil(8)], length);
            });
        }
        if !self.extended.is_empty() {
            write_extension(w, &[2, 5, 29, 37], false, |w| {
                w.write_sequence(|w| {
                    for at in &self.extended {
                        w.next().write_oid(&ObjectIdentifier::from_slice(EXTENDED[*at].1));
                    }
                });
            });
        }
    }
}
