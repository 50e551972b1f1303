//! Character classes and escapes of regular expressions in Go's syntax.

use super::pattern::{BAD_ESCAPE, BAD_RANGE, Fault, before};

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Names of categories and scripts, in lower case and without separators.
const UNICODE: &str = "any ascii assigned c cc cf cn co cs l lc ll lm lo lt lu m mc me mn n nd nl no p pc pd pe pf pi po ps s sc \
sk sm so z zl zp zs casedletter closepunctuation combiningmark connectorpunctuation control currencysymbol dashpunctuation \
decimalnumber enclosingmark finalpunctuation format initialpunctuation letter letternumber lineseparator lowercaseletter mark \
mathsymbol modifierletter modifiersymbol nonspacingmark number openpunctuation other otherletter othernumber otherpunctuation \
othersymbol paragraphseparator privateuse punctuation separator spaceseparator spacingmark surrogate symbol titlecaseletter \
unassigned uppercaseletter cntrl digit punct \
adlam ahom anatolianhieroglyphs arabic armenian avestan balinese bamum bassavah batak bengali bhaiksuki bopomofo brahmi \
braille buginese buhid canadianaboriginal carian caucasianalbanian chakma cham cherokee chorasmian common coptic cuneiform \
cypriot cyprominoan cyrillic deseret devanagari divesakuru dogra duployan egyptianhieroglyphs elbasan elymaic ethiopic \
georgian glagolitic gothic grantha greek gujarati gunjalagondi gurmukhi han hangul hanifirohingya hanunoo hatran hebrew \
hiragana imperialaramaic inherited inscriptionalpahlavi inscriptionalparthian javanese kaithi kannada katakana kawi kayahli \
kharoshthi khitansmallscript khmer khojki khudawadi lao latin lepcha limbu lineara linearb lisu lycian lydian mahajani makasar \
malayalam mandaic manichaean marchen masaramgondi medefaidrin meeteimayek mendekikakui meroiticcursive meroitichieroglyphs \
miao modi mongolian mro multani myanmar nabataean nagmundari nandinagari newtailue newa nko nushu nyiakengpuachuehmong ogham \
olchiki oldhungarian olditalic oldnortharabian oldpermic oldpersian oldsogdian oldsoutharabian oldturkic olduyghur oriya osage \
osmanya pahawhhmong palmyrene paucinhau phagspa phoenician psalterpahlavi rejang runic samaritan saurashtra sharada shavian \
siddham signwriting sinhala sogdian sorasompeng soyombo sundanese sylotinagri syriac tagalog tagbanwa taile taitham taiviet \
takri tamil tangsa tangut telugu thaana thai tibetan tifinagh tirhuta toto ugaritic vai vithkuqi wancho warangciti yezidi yi \
zanabazarsquare";

/// Reads a class from its bracket on; what follows it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn class(text: &str) -> Result<&str, Fault<'_>> {
    let mut rest = text.get(1..).unwrap_or_default();
    rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if let Some(after) = posix(rest)? {
            rest = after;
            continue;
        }
        if is_group(rest) {
            rest = group(rest)?;
            continue;
        }
        let range = rest;
        let low;
        (low, rest) = character(rest, text)?;
        if let Some(after) = rest.strip_prefix('-').filter(|after| !after.is_empty() && !after.starts_with(']')) {
            let high;
            (high, rest) = character(after, text)?;
            if high < low {
                return Err((BAD_RANGE, before(range, rest)));
            }
        }
    }
    Ok(rest.get(1..).unwrap_or_default())
}

/// `[:alpha:]` and the like, if there is one.
fn posix(text: &str) -> Result<Option<&str>, Fault<'_>> {
    let Some(after) = text.strip_prefix("[:").filter(|after| !after.is_empty()) else { return Ok(None) };
    let Some((name, rest)) = after.split_once(":]") else { return Ok(None) };
    match POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
        true => Ok(Some(rest)),
        false => Err((BAD_RANGE, before(text, rest))),
    }
}

/// Whether an escape names many characters.
fn is_group(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('\\') && chars.next().is_some_and(|c| "dDsSwWpP".contains(c))
}

/// `\d`, `\pL`, `\p{Greek}`.
fn group(text: &str) -> Result<&str, Fault<'_>> {
    let after = text.get(2..).unwrap_or_default();
    if !text.starts_with("\\p") && !text.starts_with("\\P") {
        return Ok(after);
    }
    let (name, rest) = match after.chars().next() {
        Some('{') => match after.split_once('}') {
            Some((name, rest)) => (name.get(1..).unwrap_or_default(), rest),
            None => return Err((BAD_RANGE, text)),
        },
        c => after.split_at(c.map_or(0, char::len_utf8)),
    };
    let name = name.strip_prefix('^').unwrap_or(name);
    let name: String = name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
    match UNICODE.split_ascii_whitespace().any(|known| known == name) {
        true => Ok(rest),
        false => Err((BAD_RANGE, before(text, rest))),
    }
}

/// One character of a class.
fn character<'p>(text: &'p str, class: &'p str) -> Result<(char, &'p str), Fault<'p>> {
    let Some(c) = text.chars().next() else { return Err(("missing closing ]", class)) };
    match c {
        '\\' => single(text),
        c => Ok((c, text.get(c.len_utf8()..).unwrap_or_default())),
    }
}

/// An escape outside of classes; what follows it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn escape(text: &str) -> Result<&str, Fault<'_>> {
    if is_group(text) { group(text) } else { single(text).map(|(_, rest)| rest) }
}

/// An escape for one character.
fn single(text: &str) -> Result<(char, &str), Fault<'_>> {
    let after = text.get(1..).unwrap_or_default();
    let Some(c) = after.chars().next() else { return Err(("trailing backslash at end of expression", "")) };
    let rest = after.get(c.len_utf8()..).unwrap_or_default();
    let is_octal = |c: &char| ('0'..='7').contains(c);
    match c {
        '0'..='7' if c == '0' || rest.starts_with(|c| is_octal(&c)) => {
            let digits: String = after.chars().take(3).take_while(is_octal).collect();
            let value = u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32).unwrap_or_default();
            Ok((value, after.get(digits.len()..).unwrap_or_default()))
        }
        'x' => hexadecimal(text, rest),
        'a' => Ok(('\u{7}', rest)),
        'f' => Ok(('\u{c}', rest)),
        'n' => Ok(('\n', rest)),
        'r' => Ok(('\r', rest)),
        't' => Ok(('\t', rest)),
        'v' => Ok(('\u{b}', rest)),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok((c, rest)),
        _ => Err((BAD_ESCAPE, before(text, rest))),
    }
}

/// `\x41` or `\x{1F600}`; `after` is what follows the letter.
fn hexadecimal<'p>(text: &'p str, after: &'p str) -> Result<(char, &'p str), Fault<'p>> {
    let mut chars = after.char_indices();
    // Go reads on until it knows, and shows what it has read.
    let fault = |end: usize| (BAD_ESCAPE, before(text, after.get(end..).unwrap_or_default()));
    let next = |chars: &mut std::str::CharIndices<'_>| chars.next().map(|(i, c)| (i + c.len_utf8(), c));
    let Some((end, first)) = next(&mut chars) else { return Err(fault(0)) };
    if first != '{' {
        let Some((end, second)) = next(&mut chars) else {
            // There is no second digit to read.
            return Err(fault(end));
        };
        let (Some(high), Some(low)) = (first.to_digit(16), second.to_digit(16)) else { return Err(fault(end)) };
        let value = char::from_u32(high * 16 + low).unwrap_or_default();
        return Ok((value, after.get(end..).unwrap_or_default()));
    }
    let (mut value, mut digits) = (0u32, 0);
    loop {
        let Some((end, c)) = next(&mut chars) else { return Err(fault(after.len())) };
        match c.to_digit(16) {
            Some(digit) => (value, digits) = (value * 16 + digit, digits + 1),
            None if c == '}' && digits > 0 => {
                return Ok((char::from_u32(value).unwrap_or_default(), after.get(end..).unwrap_or_default()));
            }
            None => return Err(fault(end)),
        }
        if value > 0x10_FFFF {
            return Err(fault(end));
        }
    }
}
