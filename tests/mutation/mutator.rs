//! Changes files: bytes anywhere, and in text also numbers, words and lines, so that many changed files still
//! get past the parser to what lies behind it.

use layerjoule::stats::Rng;

/// Longest file that is made.
const LONGEST: usize = 64 << 10;

/// Numbers at the edges of what types, formats and formulas hold.
const NUMBERS: [&str; 28] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "64",
    "255",
    "65536",
    "99999",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "0.0",
    "-0.0",
    "0.5",
    "1e-300",
    "1e15",
    "1e100",
    "1e300",
    "-1e300",
    "1e400",
    "null",
];

/// A seeded source of changed files.
pub(super) struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    words: &'a [Vec<u8>],
    rng: Rng,
}

impl<'a> Mutator<'a> {
    pub(super) fn new(corpus: &'a [Vec<u8>], words: &'a [Vec<u8>], seed: u64) -> Self {
        Self { corpus, words, rng: Rng::new(seed) }
    }

    /// A file of the corpus with one to six changes; one more likely than six.
    pub(super) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.one_of(self.corpus).clone();
        let most = 1 + self.rng.below(6);
        for _ in 0..=self.rng.below(most) {
            bytes = self.change(bytes);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn one_of<'b>(&mut self, items: &'b [Vec<u8>]) -> &'b Vec<u8> {
        &items[self.rng.below(items.len())]
    }

    fn change(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let text = std::str::from_utf8(&bytes).is_ok() && bytes.is_ascii();
        // In text, changes of bytes mostly end at the parser.
        let choice = if text { self.rng.below(18) } else { self.rng.below(8) };
        match choice {
            0 => self.flip(&mut bytes),
            1 => self.overwrite(&mut bytes),
            2 => self.remove(&mut bytes),
            3 => self.double(&mut bytes),
            4 => self.splice(&mut bytes),
            5 => bytes.truncate(self.rng.below(bytes.len() + 1)),
            6 | 7 => self.insert_word(&mut bytes),
            8..=12 => self.replace(&mut bytes, numbers),
            13 | 14 => self.replace(&mut bytes, strings),
            15 => self.swap_lines(&mut bytes),
            16 => self.double_line(&mut bytes),
            _ => self.remove_line(&mut bytes),
        }
        bytes
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            bytes[self.rng.below(bytes.len())] ^= 1 << self.rng.below(8);
        }
    }

    fn overwrite(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let values = [0x00, 0x01, 0x7f, 0x80, 0xff, b'"', b'\n', b' ', self.rng.below(256) as u8];
            bytes[self.rng.below(bytes.len())] = values[self.rng.below(values.len())];
        }
    }

    /// A stretch of bytes, short more often than long.
    fn stretch(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.rng.below(length + 1);
        let longest = [1, 4, 16, 256][self.rng.below(4)];
        start..(start + 1 + self.rng.below(longest)).min(length).max(start)
    }

    fn remove(&mut self, bytes: &mut Vec<u8>) {
        let range = self.stretch(bytes.len());
        bytes.drain(range);
    }

    fn double(&mut self, bytes: &mut Vec<u8>) {
        let range = self.stretch(bytes.len());
        let copy = bytes[range].to_vec();
        let at = self.rng.below(bytes.len() + 1);
        bytes.splice(at..at, copy);
    }

    fn splice(&mut self, bytes: &mut Vec<u8>) {
        let other = self.one_of(self.corpus).clone();
        let from = self.stretch(other.len());
        let to = self.stretch(bytes.len());
        bytes.splice(to, other[from].iter().copied());
    }

    fn insert_word(&mut self, bytes: &mut Vec<u8>) {
        let word = self.one_of(self.words).clone();
        let at = self.rng.below(bytes.len() + 1);
        bytes.splice(at..at, word);
    }

    /// Puts something of its own sort into the place of a token.
    fn replace(&mut self, bytes: &mut Vec<u8>, tokens: fn(&[u8]) -> Vec<std::ops::Range<usize>>) {
        let found = tokens(bytes);
        if found.is_empty() {
            return;
        }
        let target = found[self.rng.below(found.len())].clone();
        let new = match self.rng.below(4) {
            // Another token of the same file.
            0 => bytes[found[self.rng.below(found.len())].clone()].to_vec(),
            1 => self.one_of(self.words).clone(),
            _ if bytes[target.start] == b'"' => bytes[found[self.rng.below(found.len())].clone()].to_vec(),
            // Twice, half or the neighbour of what is there, or a number of the edges.
            2 => near(&bytes[target.clone()], self.rng.below(4)),
            _ => NUMBERS[self.rng.below(NUMBERS.len())].into(),
        };
        bytes.splice(target, new);
    }

    fn line(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let at = self.rng.below(bytes.len() + 1);
        let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
        let end =
            bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |after| at + after + 1);
        start..end
    }

    fn swap_lines(&mut self, bytes: &mut Vec<u8>) {
        let range = self.line(bytes);
        let line: Vec<u8> = bytes.drain(range).collect();
        let start = self.line(bytes).start;
        bytes.splice(start..start, line);
    }

    fn double_line(&mut self, bytes: &mut Vec<u8>) {
        let range = self.line(bytes);
        let line = bytes[range.clone()].to_vec();
        let at = if self.rng.below(2) == 0 { range.end } else { self.line(bytes).start };
        bytes.splice(at..at, line);
    }

    fn remove_line(&mut self, bytes: &mut Vec<u8>) {
        let range = self.line(bytes);
        bytes.drain(range);
    }
}

/// Where numbers stand in text.
fn numbers(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let part = |byte: u8| byte.is_ascii_digit() || b".-+eE".contains(&byte);
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begins = bytes[at].is_ascii_digit()
            || (bytes[at] == b'-' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit));
        let within_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        if begins && !within_word {
            let length = bytes[at..].iter().take_while(|&&byte| part(byte)).count();
            found.push(at..at + length);
            at += length;
        } else {
            at += 1;
        }
    }
    found
}

/// Where quoted words stand in text, quotes included.
fn strings(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let quotes: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'"').collect();
    quotes.chunks_exact(2).map(|pair| pair[0]..pair[1] + 1).collect()
}

/// A number near another: one up, one down, double, or of the other sign.
fn near(number: &[u8], how: usize) -> Vec<u8> {
    let text = String::from_utf8_lossy(number);
    match (text.parse::<i128>(), text.parse::<f64>()) {
        (Ok(whole), _) => [whole + 1, whole - 1, whole * 2, -whole][how].to_string().into(),
        (_, Ok(real)) => [real * 1.01, real * 0.99, real * 2.0, -real][how].to_string().into(),
        _ => number.to_vec(),
    }
}

#[test]
fn numbers_and_strings_are_found_where_they_stand() {
    let text = b"conv1 = -2.5e3, \"a b\" [7]";
    let found: Vec<&[u8]> = numbers(text).into_iter().map(|range| &text[range]).collect();
    assert_eq!(found, [b"-2.5e3".as_slice(), b"7"]);
    let found: Vec<&[u8]> = strings(text).into_iter().map(|range| &text[range]).collect();
    assert_eq!(found, [b"\"a b\"".as_slice()]);
}
