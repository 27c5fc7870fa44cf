//! What a text may mean: numbers, sizes, yes and no. Nothing here knows an option.

use std::ops::RangeInclusive;
use std::str::FromStr;

/// Puts what was understood into its place; `None` when nothing was.
pub(super) fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

/// A whole number in `range`.
pub(super) fn number<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// A finite decimal number that `fits`.
pub(super) fn real(text: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && fits(*number))
}

/// What one of the known words stands for.
pub(super) fn one_of<T, const N: usize>(text: &str, known: [(&str, T); N]) -> Option<T> {
    known.into_iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning)
}

/// A switch.
pub(super) fn yes(text: &str) -> Option<bool> {
    match text {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A switch that turns off what is on by default.
pub(super) fn no(text: &str) -> Option<bool> {
    yes(text).map(|yes| !yes)
}

/// Permission bits in octal.
pub(super) fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777)
}

/// A count of units; the suffixes say how many units one of them stands for.
fn units(text: &str, suffixes: &[(char, usize)]) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.strip_prefix(digits)? {
        "" => 1,
        suffix => {
            let mut letters = suffix.chars().map(|c| c.to_ascii_lowercase());
            let letter = letters.next().filter(|_| letters.next().is_none())?;
            suffixes.iter().find(|(known, _)| *known == letter)?.1
        }
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// Bytes, or KiB or MiB or GiB with a suffix.
pub(super) fn bytes(text: &str) -> Option<usize> {
    units(text, &[('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30)])
}

/// MiB (also with an `m`), or GiB with a `g`; the answer is in bytes.
pub(super) fn mebibytes(text: &str, range: RangeInclusive<usize>) -> Option<usize> {
    units(text, &[('m', 1), ('g', 1 << 10)]).filter(|n| range.contains(n))?.checked_mul(1 << 20)
}

/// Any text but none.
pub(super) fn some<T: for<'a> From<&'a str>>(text: &str) -> Option<Option<T>> {
    (!text.is_empty()).then(|| Some(T::from(text)))
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let tolerance = (word.len() / 3).min(2);
    let near = known.map(|name| (distance(word.as_bytes(), name.as_bytes()), name));
    near.filter(|(distance, _)| *distance <= tolerance).min().map(|(_, name)| name)
}

/// Insertions, deletions and replacements between two words.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_multiplies_and_anything_else_is_no_number() {
        let cases = [
            ("512", Some(512)),
            ("1k", Some(1024)),
            ("2M", Some(2 << 20)),
            ("1g", Some(1 << 30)),
            ("", None),
            ("k", None),
            ("1kb", None),
            ("1x", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("99999999999999999g", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for (text, expected) in
            [("64", Some(64 << 20)), ("64m", Some(64 << 20)), ("2g", Some(2 << 30))]
        {
            assert_eq!(mebibytes(text, 1..=1_000_000), expected, "{text}");
        }
        for text in ["0", "64k", "1000001", "abc", ""] {
            assert_eq!(mebibytes(text, 1..=1_000_000), None, "{text}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["memory-limit", "listen", "port", "user"];
        let nearest = |word| nearest(word, known.into_iter());
        assert_eq!(nearest("memory_limit"), Some("memory-limit"));
        assert_eq!(nearest("memory-limt"), Some("memory-limit"));
        assert_eq!(nearest("prot"), None);
        assert_eq!(nearest("listem"), Some("listen"));
        assert_eq!(nearest("x"), None);
        assert_eq!(nearest("service-host"), None);
    }

    #[test]
    fn not_a_number_is_not_a_factor() {
        for text in ["nan", "inf", "-inf", "abc", "", "1"] {
            assert_eq!(real(text, |f| f > 1.0), None, "{text}");
        }
        assert_eq!(real("1.25", |f| f > 1.0), Some(1.25));
    }
}
