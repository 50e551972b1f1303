//! Base64, as the standard alphabet with padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes bytes.
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let sextet = (word >> (18 - 6 * n) & 63) as usize;
            out.push(if n <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    out
}

/// Reads bytes; says where it could not. Line breaks are left out, as Go leaves them out.
pub(crate) fn base64_decode(text: &str) -> Result<Vec<u8>, usize> {
    let digits: Vec<(usize, u8)> = text.bytes().enumerate().filter(|(_, b)| !matches!(b, b'\n' | b'\r')).collect();
    let padding = digits.iter().rev().take(2).take_while(|(_, b)| *b == b'=').count();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for (n, chunk) in digits.chunks(4).enumerate() {
        let last = (n + 1) * 4 >= digits.len();
        let kept = if last && chunk.len() == 4 { 4 - padding } else { chunk.len() };
        let mut word = 0_u32;
        for (at, b) in &chunk[..kept] {
            word = word << 6 | ALPHABET.iter().position(|letter| letter == b).ok_or(*at)? as u32;
        }
        if chunk.len() < 4 {
            // Upstream says where the part begins that is not whole.
            return Err(text.len() - chunk.len());
        }
        word <<= 6 * (4 - kept);
        out.extend_from_slice(&word.to_be_bytes()[1..kept]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64_encode(bytes.as_bytes()), text);
            assert_eq!(base64_decode(text).as_deref(), Ok(bytes.as_bytes()));
        }
        for bad in ["Zg", "Zg=", "Z===", "Zg==Zg==", "Z-8=", "===="] {
            assert!(base64_decode(bad).is_err(), "{bad}");
        }
    }
}
