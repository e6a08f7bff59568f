//! Case and composition of letters.
//!
//! `e` and a combining acute are the same letter as `é`: file names from macOS are written the first
//! way (NFD), those from Windows the second (NFC). The standard library has no normalisation, and
//! its whole table is larger than the rest of this room, so [`compose`] knows the letters with
//! marks of Latin, Greek and Cyrillic scripts, kana and Hangul.

use std::borrow::Cow;

/// Returns `text` in lower case and composed.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    // By character, since a sigma's form must not depend on what follows it.
    Cow::Owned(compose(text.chars().flat_map(char::to_lowercase)))
}

/// Returns `text` as a file system that ignores case compares it: both small sigmas are one letter.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    match lower(text) {
        Cow::Owned(text) if text.contains('ς') => Cow::Owned(text.replace('ς', "σ")),
        text => text,
    }
}

/// Returns the text with its combining marks joined to the letters before them.
pub(crate) fn compose(text: impl Iterator<Item = char>) -> String {
    let mut composed = String::new();
    let mut last = None;
    for c in text {
        let joined = last.filter(|_| !c.is_ascii()).and_then(|last| join(last, c));
        if let Some(joined) = joined {
            composed.pop();
            composed.push(joined);
        } else {
            composed.push(c);
        }
        last = joined.or(Some(c));
    }
    composed
}

fn join(letter: char, mark: char) -> Option<char> {
    if let Some(syllable) = hangul(u32::from(letter), u32::from(mark)) {
        return Some(syllable);
    }
    let (_, pairs) = PAIRS.iter().find(|(known, _)| *known == mark)?;
    let mut small = letter.to_lowercase();
    let small = small.next().filter(|_| small.next().is_none())?;
    let mut pairs = pairs.chars();
    while let (Some(base), Some(joined)) = (pairs.next(), pairs.next()) {
        if base == small {
            let mut capital = joined.to_uppercase();
            return match capital.next() {
                _ if small == letter => Some(joined),
                capital => capital,
            };
        }
    }
    None
}

/// Joins the parts of a Korean syllable (Unicode 3.12): a leading consonant and a vowel, or these
/// and a trailing consonant.
fn hangul(first: u32, second: u32) -> Option<char> {
    let (leading, vowel) = (first.wrapping_sub(0x1100), second.wrapping_sub(0x1161));
    if leading < 19 && vowel < 21 {
        return char::from_u32(0xac00 + (leading * 21 + vowel) * 28);
    }
    let (syllable, trailing) = (first.wrapping_sub(0xac00), second.wrapping_sub(0x11a7));
    let is_open = syllable < 11_172 && syllable.is_multiple_of(28);
    (is_open && (1..28).contains(&trailing)).then(|| char::from_u32(first + trailing)).flatten()
}

/// For each combining mark, the small letters that it joins, each followed by the result.
const PAIRS: [(char, &str); 27] = [
    ('\u{300}', "aàeèiìoòuùüǜnǹēḕōṑwẁâầăằêềôồơờưừyỳеѐиѝ"),
    (
        '\u{301}',
        "aáeéiíoóuúyýcćlĺnńrŕsśzźüǘgǵåǻæǽøǿçḉēḗïḯkḱmḿõṍōṓpṕũṹwẃâấăắêếôốơớưứϊΐαάεέηήιίϋΰοόυύωώгѓкќ",
    ),
    ('\u{302}', "aâeêiîoôuûcĉgĝhĥjĵsŝwŵyŷzẑạậẹệọộ"),
    ('\u{303}', "aãnñoõiĩuũvṽâẫăẵeẽêễôỗơỡưữyỹ"),
    ('\u{304}', "aāeēiīoōuūüǖäǟȧǡæǣǫǭöȫõȭȯȱyȳgḡḷḹṛṝиӣуӯ"),
    ('\u{306}', "aăeĕgğiĭoŏuŭȩḝạặийуўжӂаӑеӗ"),
    ('\u{307}', "cċeėgġzżaȧoȯbḃdḋfḟhḣmṁnṅpṗrṙsṡśṥšṧṣṩtṫwẇxẋyẏſẛ"),
    ('\u{308}', "aäeëiïoöuüyÿhḧõṏūṻwẅxẍtẗιϊυϋеёіїаӓәӛжӝзӟиӥоӧөӫэӭуӱчӵыӹ"),
    ('\u{309}', "aảâẩăẳeẻêểiỉoỏôổơởuủưửyỷ"),
    ('\u{30a}', "aåuůwẘyẙ"),
    ('\u{30b}', "oőuűуӳ"),
    ('\u{30c}', "cčdďeělľnňrřsštťzžaǎiǐoǒuǔüǚgǧkǩʒǯjǰhȟ"),
    ('\u{30f}', "aȁeȅiȉoȍrȑuȕѵѷ"),
    ('\u{311}', "aȃeȇiȋoȏrȓuȗ"),
    ('\u{31b}', "oơuư"),
    ('\u{323}', "bḅdḍhḥkḳlḷmṃnṇrṛsṣtṭvṿwẉzẓaạeẹiịoọơợuụưựyỵ"),
    ('\u{324}', "uṳ"),
    ('\u{325}', "aḁ"),
    ('\u{326}', "sștț"),
    ('\u{327}', "cçgģkķlļnņrŗsştţeȩdḑhḩ"),
    ('\u{328}', "aąeęiįuųoǫ"),
    ('\u{32d}', "dḓeḙlḽnṋtṱuṷ"),
    ('\u{32e}', "hḫ"),
    ('\u{330}', "eḛiḭuṵ"),
    ('\u{331}', "bḇdḏkḵlḻnṉrṟtṯzẕhẖ"),
    (
        '\u{3099}',
        "かがきぎくぐけげこごさざしじすずせぜそぞただちぢつづてでとどはばひびふぶへべほぼうゔゝゞカガキギクグケゲコゴサザシジスズセゼソゾタダチヂツヅテデトドハバヒビフブヘベホボウヴワヷヰヸヱヹヲヺヽヾ",
    ),
    ('\u{309a}', "はぱひぴふぷへぺほぽハパヒピフプヘペホポ"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_and_its_mark_are_one_letter() {
        let rows = [
            ("re\u{301}sume\u{301}.doc", "résumé.doc"),
            ("E\u{301}TE\u{301}", "ÉTÉ"),
            ("e\u{323}\u{302}", "ệ"),
            ("\u{438}\u{306}", "й"),
            ("\u{3b1}\u{301}", "ά"),
            ("か\u{3099}", "が"),
            ("\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}", "한글"),
            // What has no composed form stays.
            ("q\u{301}", "q\u{301}"),
            ("\u{301}a", "\u{301}a"),
            ("가가", "가가"),
        ];
        for (text, composed) in rows {
            assert_eq!(compose(text.chars()), composed);
        }
    }

    #[test]
    fn case_is_that_of_single_letters() {
        assert_eq!(lower("ΟΔΟΣ"), "οδοσ");
        assert_eq!((lower("οδος"), fold("Οδος")), ("οδος".into(), "οδοσ".into()));
        assert_eq!(lower("\u{212a}E\u{301}"), "ké");
        assert!(matches!(fold("plain.exe"), Cow::Borrowed(_)));
    }
}
