//! Protobuf without a schema: fields by their numbers. Two servers that write the same message give the same tree.

use super::node::Node;

/// What a body in Kubernetes' protobuf begins with.
pub const MAGIC: &[u8] = b"k8s\0";
/// Deeper than any message of the API.
const DEEPEST: usize = 40;
/// Seconds of the epoch from which on a number is taken for a moment of the test: those that requests name lie before.
const NOW: u64 = 1_700_000_000;

/// A body, or nothing when it is none.
pub fn body(bytes: &[u8]) -> Option<Node> {
    message(bytes.strip_prefix(MAGIC)?, 0)
}

/// A message, so many messages below the first.
pub fn message(mut bytes: &[u8], depth: usize) -> Option<Node> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        if number == 0 || number > 10_000 || depth > DEEPEST {
            return None;
        }
        let value = match key & 7 {
            0 => scalar(varint(&mut bytes)?),
            1 => fixed(&mut bytes, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (part, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                part_of(part, depth)
            }
            5 => fixed(&mut bytes, 4)?,
            _ => return None,
        };
        // Whether what is empty is written is the writer's choice.
        let empty = [Node::Text(String::new()), Node::Number(0.into()), Node::Object(Vec::new())];
        if !empty.contains(&value) {
            fields.push((number, value));
        }
    }
    // In which order fields are written is the writer's choice, too; those of one number are a list.
    fields.sort_by_key(|(number, _)| *number);
    Some(Node::Object(fields.into_iter().map(|(number, value)| (number.to_string(), value)).collect()))
}

/// Text where it reads as text, otherwise a message, otherwise how long it is.
fn part_of(part: &[u8], depth: usize) -> Node {
    let text = std::str::from_utf8(part).ok().filter(|text| !text.chars().any(|c| c.is_control() && c != '\n'));
    if let Some(text) = text {
        return Node::Text(text.to_owned());
    }
    let inner = message(part, depth + 1).or_else(|| body(part));
    inner.unwrap_or_else(|| Node::Text(format!("{} bytes", part.len())))
}

fn scalar(value: u64) -> Node {
    // Its sign is that of a 64-bit number, as Go writes smaller ones.
    if (NOW..NOW * 2).contains(&value) {
        Node::Text("TIME".to_owned())
    } else {
        Node::Number(value.cast_signed().into())
    }
}

fn fixed(bytes: &mut &[u8], length: usize) -> Option<Node> {
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Node::Text(format!("{part:02x?}")))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
