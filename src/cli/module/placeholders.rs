//! Fills in the placeholders of a settings file, in the grammar of Python's `string.Template`,
//! which the `relay` tool used.

use super::xdr::Lookup;

/// Replaces `$NAME` and `${NAME}` by their values, and `$$` by a dollar sign. Values are not
/// expanded again.
///
/// # Errors
/// What is wrong, phrased to follow the field's name, without any value.
pub(crate) fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once('$') {
        expanded.push_str(plain);
        if let Some(after) = tail.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let (name, after) = placeholder(tail)
            .ok_or("has a $ without a name after it; write a dollar sign as $$")?;
        let value = lookup(name).map_err(|problem| format!("cannot be filled in: {problem}"))?;
        let value = value.ok_or_else(|| format!("needs {name}, which is not set"))?;
        expanded.push_str(value.expose());
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Splits the text after a dollar sign into a name and the rest.
fn placeholder(tail: &str) -> Option<(&str, &str)> {
    let braced = tail.strip_prefix('{');
    let text = braced.unwrap_or(tail);
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if braced.is_some() { Some((name, after.strip_prefix('}')?)) } else { Some((name, after)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::credentials::Secret;

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, &|name| match name {
            "COLOR" => Ok(Some(Secret::new("red"))),
            "_x9" => Ok(Some(Secret::new("$COLOR $"))),
            "UNREADABLE" => Err("UNREADABLE_FILE: /x cannot be read".to_owned()),
            _ => Ok(None),
        })
    }

    #[test]
    fn placeholders_are_filled_in_once() {
        let rows = [
            ("", ""),
            ("plain", "plain"),
            ("$COLOR", "red"),
            ("${COLOR}ish", "redish"),
            ("a $COLOR-${COLOR} b", "a red-red b"),
            ("$$COLOR costs $$5", "$COLOR costs $5"),
            // Values are not expanded again.
            ("$_x9", "$COLOR $"),
            ("é${COLOR}é", "éredé"),
        ];
        for (text, expected) in rows {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        let no_name = "has a $ without a name after it; write a dollar sign as $$";
        let rows = [
            ("$COLOUR", "needs COLOUR, which is not set"),
            ("${color}", "needs color, which is not set"),
            ("a $", no_name),
            ("$5", no_name),
            ("${}", no_name),
            ("${COLOR", no_name),
            ("${COLOR-x}", no_name),
            ("$é", no_name),
            ("$UNREADABLE", "cannot be filled in: UNREADABLE_FILE: /x cannot be read"),
        ];
        for (text, expected) in rows {
            assert_eq!(expanded(text), Err(expected.to_owned()), "{text}");
        }
    }
}
