//! The query options that several lists of Graph share.

use super::url::Target;

/// Returns the number in a query option.
pub(super) fn number(
    target: &Target<'_>,
    name: &str,
    default: usize,
    most: usize,
) -> Result<usize, String> {
    match target.option(name) {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(format!("Invalid value '{text}' for {name}.")),
        },
    }
}

pub(super) fn next_link(target: &Target<'_>, list: &str, skip: &str) -> String {
    let kept = target.options().filter(|option| !matches!(*option, "$skip" | "$skiptoken"));
    let kept = kept.map(|option| {
        let value = target.option(option).unwrap_or_default();
        format!("{option}={}", crate::base::http::percent_encode(value))
    });
    let query: Vec<String> = kept.chain([format!("$skiptoken={skip}")]).collect();
    format!("{}/v1.0/security/{list}?{}", target.origin, query.join("&"))
}
