//! Texts that many alerts hold, each kept once.
//!
//! A product says the same of every alert of a kind, and a machine has the same
//! names in all of its alerts: without this, half of the memory of a tenant is
//! copies.

use std::collections::HashSet;
use std::sync::Arc;

use crate::alert::Alert;

/// The texts of one index.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    known: HashSet<Arc<str>>,
    /// How many there may be before those that no alert holds any more go.
    enough: usize,
}

impl Texts {
    /// Has `alert` hold the texts that are known instead of its own copies.
    pub(crate) fn share(&mut self, alert: &mut Alert) {
        alert.common_texts(&mut |text| match self.known.get(text) {
            Some(known) => text.clone_from(known),
            None => {
                self.known.insert(Arc::clone(text));
            }
        });
        // Each time as many have come as have stayed, so that a text costs the
        // same however many there are.
        if self.known.len() > self.enough {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.enough = 2 * self.known.len().max(FEW);
        }
    }
}

/// Too few to be worth a look.
const FEW: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(title: &str) -> Alert {
        Alert { title: Some(title.into()), ..Alert::default() }
    }

    #[test]
    fn a_text_is_kept_once_and_goes_with_the_last_alert_that_holds_it() {
        let mut texts = Texts::default();
        let mut held = [alert("same"), alert("same")];
        held.iter_mut().for_each(|alert| texts.share(alert));
        let [first, second] = held.each_ref().map(|alert| alert.title.as_ref().unwrap());
        assert!(Arc::ptr_eq(first, second));
        for number in 0..10 * FEW {
            texts.share(&mut alert(&number.to_string()));
        }
        assert!(texts.known.len() <= 2 * FEW + 1, "{} are left", texts.known.len());
        assert!(texts.known.contains("same"));
    }
}
