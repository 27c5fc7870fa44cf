//! Every target's body over its seeds, and over seeds in which a few things were turned.

use std::fs;
use std::path::Path;

use super::choices::Dice;

/// Inputs made from the seeds of a target.
const TURNED: usize = 3000;
/// They take longer: the whole store is compared again and again.
const TURNED_OF_STORE: usize = 300;
const INPUT_MAX: usize = 4096;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{target} has seeds");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A seed with bytes changed, cut out, put in, or of two seeds one's beginning and the other's end.
fn turned(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        match dice.below(6) {
            0 => input.truncate(at),
            1 => input.insert(at, u8::try_from(dice.below(256)).unwrap()),
            2 => {
                let other = &seeds[dice.below(seeds.len())];
                input.truncate(at);
                input.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
            3 => input.extend_from_within(at..),
            4 if at < input.len() => input[at] ^= 1 << dice.below(8),
            _ if at < input.len() => drop(input.remove(at)),
            _ => {}
        }
    }
    input.truncate(INPUT_MAX);
    input
}

/// Runs `body` over everything; a panic names the input.
fn run(target: &str, body: fn(&[u8]), times: usize) {
    let seeds = seeds(target);
    let mut dice = Dice::new(1);
    let made = std::iter::repeat_with(|| turned(&seeds, &mut dice)).take(times);
    for input in seeds.iter().cloned().chain(made) {
        if std::panic::catch_unwind(|| body(&input)).is_err() {
            panic!("{target} does not bear {}", input.escape_ascii());
        }
    }
}

#[test]
fn text_is_answered_the_same_however_it_is_cut() {
    run("text", super::text, TURNED);
}

#[test]
fn meta_commands_are_answered_in_order_with_flags_in_order() {
    run("meta", super::meta, TURNED);
}

#[test]
fn frames_are_answered_by_frames_and_wrong_ones_skipped_to_the_byte() {
    run("binary", super::binary, TURNED);
}

#[test]
fn datagrams_know_nothing_of_each_other_and_keep_to_their_allowance() {
    run("udp", super::udp, TURNED);
}

#[test]
fn the_store_does_what_its_model_does_whatever_the_bytes_say() {
    run("store", super::store, TURNED_OF_STORE);
}
