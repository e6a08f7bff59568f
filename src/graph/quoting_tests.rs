//! Test values for the quoting of literals: as analysts paste them and attackers name their files.

/// Values that are known to break naive quoting.
pub(super) const NASTY: [&str; 14] = [
    "",
    "O'Brien.exe",
    "a&b#c%41+d.exe",
    "x' or severity ne '",
    "'",
    "''",
    "\"",
    "\\",
    "\\\"",
    "C:\\Users\\bob\\",
    "a\0b\r\n\tc\u{7f}\u{85}\u{2028}",
    "\\u0041",
    "naïve 文件 \u{1f600}.exe",
    "\"]); AlertInfo //",
];

/// Pseudo-random values, repeatable by seed: made of significant characters, up to 8 KiB long.
pub(super) struct Pasted(u64);

impl Pasted {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// xorshift64 is random enough for this.
    const fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Iterator for Pasted {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        const CHARS: [char; 24] = [
            '\'',
            '"',
            '\\',
            '\0',
            '\n',
            '\r',
            '\u{7f}',
            '\u{85}',
            '\u{2028}',
            '\u{2029}',
            '%',
            '&',
            '#',
            '+',
            ' ',
            '/',
            '(',
            ')',
            'u',
            '0',
            'a',
            'é',
            '文',
            '\u{1f600}',
        ];
        let length = match self.roll() % 16 {
            0 => 8 * 1024,
            other => other * 3,
        };
        let pick = |at: u64| CHARS[usize::try_from(at).unwrap() % CHARS.len()];
        Some((0..length).map(|_| pick(self.roll() >> 20)).collect())
    }
}
