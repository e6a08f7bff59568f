//! Punycode (RFC 3492): how a label of a domain name with other letters than DNS allows is written
//! in those.

/// Returns the label that `text` encodes, without the `xn--` before it.
pub(super) fn decode(text: &str) -> Option<String> {
    let (basic, extended) = text.rsplit_once('-').unwrap_or(("", text));
    let mut label: Vec<char> = basic.chars().collect();
    let (mut code, mut index, mut bias) = (INITIAL_CODE, 0_u32, INITIAL_BIAS);
    let mut digits = extended.bytes().peekable();
    while digits.peek().is_some() {
        let (before, mut weight, mut k) = (index, 1_u32, BASE);
        loop {
            let digit = match digits.next()? {
                b @ b'a'..=b'z' => u32::from(b - b'a'),
                b @ b'0'..=b'9' => u32::from(b - b'0') + 26,
                _ => return None,
            };
            index = index.checked_add(digit.checked_mul(weight)?)?;
            let threshold = threshold(k, bias);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
            k += BASE;
        }
        let length = u32::try_from(label.len()).ok()? + 1;
        bias = adapt(index - before, length, before == 0);
        code = code.checked_add(index / length)?;
        index %= length;
        label.insert(usize::try_from(index).ok()?, char::from_u32(code)?);
        index += 1;
    }
    Some(label.into_iter().collect())
}

/// Encodes `label`, which is in lower case, for use after `xn--`.
pub(super) fn encode(label: &str) -> Option<String> {
    let mut text: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(text.len()).ok()?;
    if basic > 0 {
        text.push('-');
    }
    let (mut code, mut delta, mut bias, mut done) = (INITIAL_CODE, 0_u32, INITIAL_BIAS, basic);
    let mut rest: Vec<u32> = label.chars().filter(|c| !c.is_ascii()).map(u32::from).collect();
    rest.sort_unstable();
    rest.dedup();
    for next in rest {
        delta = delta.checked_add((next - code).checked_mul(done + 1)?)?;
        code = next;
        for c in label.chars().map(u32::from) {
            if c < code {
                delta = delta.checked_add(1)?;
            }
            if c == code {
                push_number(&mut text, delta, bias);
                bias = adapt(delta, done + 1, done == basic);
                delta = 0;
                done += 1;
            }
        }
        delta += 1;
        code += 1;
    }
    Some(text)
}

fn push_number(text: &mut String, mut number: u32, bias: u32) {
    let mut k = BASE;
    loop {
        let threshold = threshold(k, bias);
        let is_last = number < threshold;
        let span = BASE - threshold;
        let digit = if is_last { number } else { threshold + (number - threshold) % span };
        // The digits are a to z, then 0 to 9.
        text.extend(char::from_digit((digit + 10) % BASE, BASE));
        if is_last {
            return;
        }
        number = (number - threshold) / span;
        k += BASE;
    }
}

fn threshold(k: u32, bias: u32) -> u32 {
    k.saturating_sub(bias).clamp(1, 26)
}

fn adapt(delta: u32, length: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / 700 } else { delta / 2 };
    delta += delta / length;
    let mut k = 0;
    while delta > (BASE - 1) * 26 / 2 {
        delta /= BASE - 1;
        k += BASE;
    }
    k + BASE * delta / (delta + 38)
}

const BASE: u32 = 36;
const INITIAL_BIAS: u32 = 72;
const INITIAL_CODE: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_as_the_standard_says() {
        // From RFC 3492 section 7.1, and names in use.
        let rows = [
            ("bücher", "bcher-kva"),
            ("他们为什么不说中文", "ihqwcrb4cv8a8dqg056pqjye"),
            ("почемужеонинеговорятпорусски", "b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("tạisaohọkhôngthểchỉnóitiếngviệt", "tisaohkhngthchnitingvit-kjcr8268qyxafd2f1b9g"),
            ("3年b組金八先生", "3b-ww4c5e180e575a65lsy2b"),
            ("ü", "tda"),
            ("a-ü", "a--yka"),
        ];
        for (label, text) in rows {
            assert_eq!(encode(label).as_deref(), Some(text));
            assert_eq!(decode(text).as_deref(), Some(label));
        }
        for text in ["bcher-kva!", "bcher-kvA", "bcher-k", "99999999999999", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
