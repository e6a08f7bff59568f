//! Finds misspelt variable names in the environment, and the variables they resemble.

use std::fmt;

use super::table::VARIABLES;

/// An ignored variable whose name resembles a known one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// The name in the environment.
    pub name: String,
    /// The name that was probably meant.
    pub meant: String,
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, meant } = self;
        write!(f, "{name} is ignored; did you mean {meant}?")
    }
}

/// Returns the problem with `name` if it has a prefix of this program's variables but is not one of
/// them.
pub(super) fn unknown(name: &str) -> Option<String> {
    // An editor may have put a byte order mark before the first name of a file.
    if let Some(rest) = name.strip_prefix('\u{feff}') {
        let is_ours = known().any(|known| known == rest);
        return is_ours.then(|| format!("{rest} has a byte order mark before its name; remove it"));
    }
    if !name.starts_with("RELAY_") || known().any(|known| known == name) {
        return None;
    }
    Some(match nearest(name) {
        Some(meant) => format!("unknown variable {name}; did you mean {meant}?"),
        None => format!("unknown variable {name}; graph-relay --help lists all variables"),
    })
}

/// Returns those of `names` that are ignored but resemble a variable. Except HTTP_PROXY where
/// HTTPS_PROXY is set: other programs use it.
pub(super) fn near_misses<'a>(
    names: impl Iterator<Item = &'a str>,
    is_set: impl Fn(&str) -> bool,
) -> Vec<NearMiss> {
    let near = |name: &'a str| {
        let is_read = known().any(|known| {
            known == name || (known.ends_with("_PROXY") && known.to_lowercase() == name)
        });
        if is_read || name.starts_with("RELAY_") {
            return None;
        }
        let meant = nearest(&name.to_uppercase())?;
        let is_needed = !meant.ends_with("_PROXY") || !is_set(&meant);
        is_needed.then(|| NearMiss { name: name.to_owned(), meant })
    };
    names.filter_map(near).collect()
}

/// Returns the variable that `name` closely resembles, if any.
fn nearest(name: &str) -> Option<String> {
    let near = known().map(|known| (distance(name, &known), known));
    // About one mistake in five characters.
    let near = near.filter(|(distance, known)| *distance <= known.len() / 5);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Returns all names that the server reads.
fn known() -> impl Iterator<Item = String> {
    VARIABLES.iter().flat_map(|variable| {
        let file = variable.secret.then(|| format!("{}_FILE", variable.name));
        [Some(variable.name.to_owned()), file].into_iter().flatten()
    })
}

/// Returns the Levenshtein distance between `a` and `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, to) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *above;
            left = replaced.min(left + 1).min(diagonal + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_two_names() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
