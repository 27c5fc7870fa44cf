//! `ssl_ciphers`: OpenSSL's cipher list, as far as it can mean anything here.
//!
//! rustls knows only suites with forward secrecy and authenticated encryption, so most of what such
//! lists exclude does not exist. As with OpenSSL the list is about TLS 1.2; the suites of TLS 1.3
//! are always offered.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::{ALL_CIPHER_SUITES, cipher_suite as suite};

/// The suites of TLS 1.2 under OpenSSL's names.
const TLS12: [(&str, SupportedCipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The suites that `list` leaves, in the order of preference that rustls has; `None` when it
/// leaves none of TLS 1.2.
pub(super) fn chosen(list: &str) -> Option<Vec<SupportedCipherSuite>> {
    let mut kept = [false; TLS12.len()];
    for element in list.split([':', ',', ' ', '@']) {
        let (keep, words) = match element.strip_prefix(['!', '-']) {
            Some(words) => (false, words),
            // `+word` only moves suites to the end.
            None if element.starts_with('+') => continue,
            None => (true, element),
        };
        for (kept, (name, _)) in kept.iter_mut().zip(&TLS12) {
            if words.split('+').all(|word| describes(word, name)) {
                *kept = keep;
            }
        }
    }
    let left = |suite: &SupportedCipherSuite| {
        let index = TLS12.iter().position(|(_, known)| known == suite);
        index.is_none_or(|index| kept[index])
    };
    kept.contains(&true).then(|| ALL_CIPHER_SUITES.iter().copied().filter(left).collect())
}

/// Whether a word of OpenSSL's stands for the suite with this name, among others.
fn describes(word: &str, name: &str) -> bool {
    match word {
        "ALL" | "DEFAULT" | "HIGH" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "TLSv1.2" => true,
        "AES" | "AESGCM" => name.contains("-AES"),
        "AES128" | "AES256" | "CHACHA20" => name.contains(word),
        "ECDSA" | "aECDSA" => name.contains("-ECDSA-"),
        "aRSA" => name.contains("-RSA-"),
        _ => word == name,
    }
}

/// The names that may stand in a list, for messages.
pub(super) fn names() -> String {
    TLS12.map(|(name, _)| name).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls12_left(list: &str) -> Vec<&'static str> {
        let suites = chosen(list).unwrap_or_default();
        let known = TLS12.iter().filter(|(_, suite)| suites.contains(suite));
        known.map(|(name, _)| *name).collect()
    }

    #[test]
    fn names_and_words_choose_what_openssl_would_choose_of_what_there_is() {
        let all = TLS12.map(|(name, _)| name);
        let cases: [(&str, Vec<&str>); 9] = [
            ("ECDHE-RSA-AES128-GCM-SHA256", vec![all[4]]),
            (
                "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:ECDHE-ECDSA-AES256-GCM-SHA384",
                vec![all[0], all[4]],
            ),
            ("HIGH:!aNULL:!MD5:!RC4", all.to_vec()),
            ("DEFAULT@SECLEVEL=2", all.to_vec()),
            ("DEFAULT:@SECLEVEL=2", all.to_vec()),
            ("ECDHE+AESGCM:!AES128", vec![all[0], all[3]]),
            ("EECDH+aRSA+CHACHA20", vec![all[5]]),
            ("ALL:!ECDSA:-CHACHA20", vec![all[3], all[4]]),
            ("AESGCM:!RSA", vec![all[0], all[1], all[3], all[4]]),
        ];
        for (list, expected) in cases {
            assert_eq!(tls12_left(list), expected, "{list}");
        }
    }

    #[test]
    fn a_list_that_leaves_nothing_is_none_and_any_other_leaves_tls_1_3_whole() {
        for list in ["", ":", "AES128-SHA", "!aNULL", "ALL:!ECDHE", "TLS_AES_128_GCM_SHA256"] {
            assert!(chosen(list).is_none(), "{list}");
        }
        let tls13 = |suites: &[SupportedCipherSuite]| {
            suites.iter().filter(|suite| suite.tls13().is_some()).count()
        };
        assert_eq!(
            tls13(&chosen("ECDHE-RSA-AES128-GCM-SHA256").unwrap()),
            tls13(ALL_CIPHER_SUITES)
        );
        assert_eq!(tls13(ALL_CIPHER_SUITES) + TLS12.len(), ALL_CIPHER_SUITES.len());
    }
}
