//! How a binary client logs in (`-S`): SASL's PLAIN (RFC 4616) and CRAM-MD5 (RFC 2195).
//!
//! A client starts a mechanism and perhaps takes a further step. [`Sasl`] remembers what it was
//! asked between the two, and nothing else: who has logged in is the session's to know. A start
//! ends whatever was begun before; a step can be taken once.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use subtle::{Choice, ConstantTimeEq};

use super::Users;

/// The mechanisms, as a client that asks for a list is told them. libmemcached takes CRAM-MD5
/// when it is offered.
pub const MECHANISMS: &str = "CRAM-MD5 PLAIN";

/// Bytes of chance in a challenge.
const NONCE: usize = 16;

/// Bytes of an MD5 digest.
const DIGEST: usize = 16;

/// One client's way through a mechanism.
#[derive(Debug, Default)]
pub struct Sasl {
    asked: Option<Asked>,
}

/// What the client was asked for.
#[derive(Debug)]
enum Asked {
    /// The message that was missing from the start.
    Plain,
    /// The digest of this challenge.
    CramMd5(Vec<u8>),
}

/// What a client's message led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslAnswer {
    /// The client must take a step, knowing this.
    Continue(Vec<u8>),
    /// This user has logged in.
    Ok(Vec<u8>),
    /// Nobody has logged in.
    Fail,
}

impl Sasl {
    /// A client asks to log in by `mechanism`; `data` is its initial response.
    pub fn start(&mut self, users: &Users, mechanism: &[u8], data: &[u8]) -> SaslAnswer {
        self.asked = None;
        if mechanism.eq_ignore_ascii_case(b"PLAIN") {
            if data.is_empty() { self.ask(Asked::Plain) } else { plain(users, data) }
        } else if mechanism.eq_ignore_ascii_case(b"CRAM-MD5") && data.is_empty() {
            match challenge() {
                Some(challenge) => self.ask(Asked::CramMd5(challenge)),
                None => SaslAnswer::Fail,
            }
        } else {
            SaslAnswer::Fail
        }
    }

    /// A client answers what it was asked.
    pub fn step(&mut self, users: &Users, data: &[u8]) -> SaslAnswer {
        match self.asked.take() {
            None => SaslAnswer::Fail,
            Some(Asked::Plain) => plain(users, data),
            Some(Asked::CramMd5(challenge)) => cram_md5(users, &challenge, data),
        }
    }

    fn ask(&mut self, asked: Asked) -> SaslAnswer {
        let told = match &asked {
            Asked::Plain => Vec::new(),
            Asked::CramMd5(challenge) => challenge.clone(),
        };
        self.asked = Some(asked);
        SaslAnswer::Continue(told)
    }
}

/// `[authzid] NUL authcid NUL password`. Nobody may act for somebody else.
fn plain(users: &Users, message: &[u8]) -> SaslAnswer {
    let mut parts = message.split(|byte| *byte == 0);
    let (Some(acts_for), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return SaslAnswer::Fail;
    };
    let known = users.knows(user, password);
    if known && (acts_for.is_empty() || acts_for == user) {
        SaslAnswer::Ok(user.to_vec())
    } else {
        SaslAnswer::Fail
    }
}

/// `user SP digest`, the digest in hexadecimal.
fn cram_md5(users: &Users, challenge: &[u8], response: &[u8]) -> SaslAnswer {
    let Some(space) = response.iter().rposition(|byte| *byte == b' ') else {
        return SaslAnswer::Fail;
    };
    let (user, digest) = (&response[..space], &response[space + 1..]);
    let Some(digest) = from_hex(digest) else { return SaslAnswer::Fail };
    if users.proven(user, |password| is_digest(password, challenge, &digest)) {
        SaslAnswer::Ok(user.to_vec())
    } else {
        SaslAnswer::Fail
    }
}

fn is_digest(password: &[u8], challenge: &[u8], digest: &[u8; DIGEST]) -> Choice {
    // An HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(password) else { return Choice::from(0) };
    mac.update(challenge);
    mac.finalize().into_bytes().as_slice().ct_eq(digest)
}

/// A message id that nobody can guess; `None` when the machine has no chance to give.
fn challenge() -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).ok()?;
    Some(format!("<{:032x}@twincached>", u128::from_be_bytes(nonce)).into_bytes())
}

fn from_hex(digits: &[u8]) -> Option<[u8; DIGEST]> {
    if digits.len() != 2 * DIGEST || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::Format;
    use super::*;

    fn users() -> Users {
        let text = b"anna@web1:secret\ntim:tanstaaftanstaaf\nlong:".to_vec();
        let text = [text, vec![b'p'; 100], b"\n".to_vec()].concat();
        Users::parse(Format::SaslPasswords, &text).unwrap()
    }

    fn response(user: &str, password: &[u8], challenge: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Md5>::new_from_slice(password).unwrap();
        mac.update(challenge);
        let digest: Vec<String> =
            mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{user} {}", digest.concat()).into_bytes()
    }

    #[track_caller]
    fn challenged(sasl: &mut Sasl) -> Vec<u8> {
        match sasl.start(&users(), b"CRAM-MD5", b"") {
            SaslAnswer::Continue(challenge) => challenge,
            other => panic!("not challenged: {other:?}"),
        }
    }

    #[test]
    fn plain_takes_user_and_password_at_the_start_or_in_a_step() {
        let mut sasl = Sasl::default();
        let ok = SaslAnswer::Ok(b"anna".to_vec());
        assert_eq!(sasl.start(&users(), b"PLAIN", b"\0anna\0secret"), ok);
        assert_eq!(sasl.start(&users(), b"plain", b"anna\0anna\0secret"), ok);
        assert_eq!(sasl.start(&users(), b"Plain", b""), SaslAnswer::Continue(Vec::new()));
        assert_eq!(sasl.step(&users(), b"\0anna\0secret"), ok);
        assert_eq!(
            sasl.start(&users(), b"PLAIN", b"\0anna@web1\0secret"),
            SaslAnswer::Ok(b"anna@web1".to_vec())
        );
    }

    #[test]
    fn plain_refuses_what_is_malformed_wrong_or_on_behalf_of_another() {
        let messages: [&[u8]; 12] = [
            b"anna\0secret",
            b"\0anna\0secret\0",
            b"\0anna\0secret\0x",
            b"\0\0",
            b"\0",
            b"x",
            b"\0anna\0",
            b"\0anna\0secre",
            b"\0anna\0secrets",
            b"\0tim\0secret",
            b"\0\0secret",
            b"tim\0anna\0secret",
        ];
        for message in messages {
            let mut sasl = Sasl::default();
            assert_eq!(sasl.start(&users(), b"PLAIN", message), SaslAnswer::Fail, "{message:?}");
            sasl.start(&users(), b"PLAIN", b"");
            assert_eq!(sasl.step(&users(), message), SaslAnswer::Fail, "{message:?}");
            assert_eq!(sasl.step(&users(), b"\0anna\0secret"), SaslAnswer::Fail);
        }
    }

    #[test]
    fn the_digest_is_that_of_rfc_2195() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let answer = |digest: &[u8]| cram_md5(&users(), challenge, digest);
        let digest = b"tim b913a602c7eda7a495b4e6e7334d3890";
        assert_eq!(answer(digest), SaslAnswer::Ok(b"tim".to_vec()));
        assert_eq!(answer(b"anna b913a602c7eda7a495b4e6e7334d3890"), SaslAnswer::Fail);
        assert_eq!(answer(b"tim b913a602c7eda7a495b4e6e7334d3891"), SaslAnswer::Fail);
    }

    #[test]
    fn cram_md5_knows_who_knows_the_password_and_takes_one_answer_a_challenge() {
        for (user, password) in
            [("anna", &b"secret"[..]), ("anna@web1", b"secret"), ("long", &[b'p'; 100])]
        {
            let mut sasl = Sasl::default();
            let challenge = challenged(&mut sasl);
            let right = response(user, password, &challenge);
            assert_eq!(sasl.step(&users(), &right), SaslAnswer::Ok(user.as_bytes().to_vec()));
            assert_eq!(sasl.step(&users(), &right), SaslAnswer::Fail, "a replay");
            challenged(&mut sasl);
            assert_eq!(sasl.step(&users(), &right), SaslAnswer::Fail, "another challenge");
        }
    }

    #[test]
    fn cram_md5_refuses_malformed_and_wrong_answers() {
        let mut sasl = Sasl::default();
        assert_eq!(sasl.start(&users(), b"CRAM-MD5", b"anna"), SaslAnswer::Fail);
        let wrong = |challenge: &[u8]| {
            [
                Vec::new(),
                b"anna".to_vec(),
                b"anna ".to_vec(),
                b" ".to_vec(),
                response("anna", b"wrong", challenge),
                response("nobody", b"secret", challenge),
                response("nobody", b"", challenge),
                [response("anna", b"secret", challenge), b"0".to_vec()].concat(),
            ]
        };
        for index in 0..8 {
            let challenge = challenged(&mut sasl);
            assert_eq!(sasl.step(&users(), &wrong(&challenge)[index]), SaslAnswer::Fail);
            let late = response("anna", b"secret", &challenge);
            assert_eq!(sasl.step(&users(), &late), SaslAnswer::Fail, "a second try");
        }
    }

    #[test]
    fn no_two_challenges_are_the_same() {
        let mut sasl = Sasl::default();
        let challenges: HashSet<Vec<u8>> = (0..1_000).map(|_| challenged(&mut sasl)).collect();
        assert_eq!(challenges.len(), 1_000);
    }

    #[test]
    fn an_unknown_mechanism_a_step_without_a_start_and_an_abandoned_start_log_nobody_in() {
        let mut sasl = Sasl::default();
        assert_eq!(sasl.step(&users(), b"\0anna\0secret"), SaslAnswer::Fail);
        for mechanism in [&b"SCRAM-SHA-1"[..], b"", b"PLAI", b"PLAIN\0", b"CRAM-MD5 PLAIN"] {
            assert_eq!(sasl.start(&users(), mechanism, b"\0anna\0secret"), SaslAnswer::Fail);
        }
        let challenge = challenged(&mut sasl);
        assert_eq!(sasl.start(&users(), b"PLAIN", b"x"), SaslAnswer::Fail);
        let late = response("anna", b"secret", &challenge);
        assert_eq!(sasl.step(&users(), &late), SaslAnswer::Fail);
    }

    #[test]
    fn every_password_is_tried_whoever_asks() {
        for user in ["anna", "tim", "long", "nobody", ""] {
            let tried = std::cell::Cell::new(0);
            users().proven(user.as_bytes(), |_| {
                tried.set(tried.get() + 1);
                Choice::from(1)
            });
            assert_eq!(tried.get(), 3, "{user}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_without_the_password_log_in(mechanism: Vec<u8>, messages: Vec<Vec<u8>>) {
            let mut sasl = Sasl::default();
            for message in &messages {
                for mechanism in [&mechanism[..], b"PLAIN", b"CRAM-MD5"] {
                    let answers = [
                        sasl.start(&users(), mechanism, message),
                        sasl.start(&users(), mechanism, b""),
                        sasl.step(&users(), message),
                    ];
                    proptest::prop_assert!(!answers.iter().any(|a| matches!(a, SaslAnswer::Ok(_))));
                }
            }
        }
    }
}
