//! How many datagrams a second are heard from one network that `--udp-allow` does not name
//! (`--udp-rate`): a forged source is a victim, and many short answers are a flood as well.
//!
//! Picture a board with a fixed number of pegs. Every network has its peg, which holds the second
//! and how many datagrams came in it; networks that share a peg share what it allows. So nothing
//! grows, however many addresses are forged. All workers look at the same board. Which networks
//! share a peg cannot be known outside: the hash has a secret key.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::UnixSeconds;

/// Pegs of a board: 64 KiB.
const PEGS: usize = 1 << 13;

/// What networks have sent in their last seconds.
#[derive(Debug)]
pub(super) struct Rates {
    pegs: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Rates {
    pub(super) fn new() -> Rates {
        let pegs = (0..PEGS).map(|_| AtomicU64::new(0)).collect();
        Rates { pegs, hasher: RandomState::new() }
    }

    /// Whether a datagram from `source` is one of the first `most` of its network in the second
    /// `now`.
    pub(super) fn admits(&self, source: IpAddr, most: u32, now: UnixSeconds) -> bool {
        let hash = self.hasher.hash_one(network(source));
        let peg = &self.pegs[usize::try_from(hash % PEGS as u64).unwrap_or(0)];
        let second = u64::from(now.0) << 32;
        let count = |seen: u64| {
            let before = if seen >> 32 == second >> 32 { seen } else { second };
            (before - second < u64::from(most)).then_some(before + 1)
        };
        peg.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }
}

/// The network of an address: /24, and as much as a customer is given of IPv6, /56.
pub(in crate::net) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(four) => IpAddr::from((four.to_bits() & !0xff).to_be_bytes()),
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 72)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(rates: &Rates, source: &str, most: u32, now: u32) -> bool {
        rates.admits(source.parse().unwrap(), most, UnixSeconds(now))
    }

    #[test]
    fn a_network_has_so_many_a_second_and_as_many_again_in_the_next() {
        let rates = Rates::new();
        for now in [7, 8, 100] {
            let heard = (0..9).filter(|n| admitted(&rates, &format!("192.0.2.{n}"), 5, now));
            assert_eq!(heard.count(), 5, "second {now}");
        }
        assert!(!admitted(&rates, "::ffff:192.0.2.200", 5, 100));
    }

    #[test]
    fn other_networks_have_their_own() {
        let rates = Rates::new();
        let others = (0..200).filter(|n| admitted(&rates, &format!("10.0.{n}.1"), 1, 7)).count();
        assert!(others > 180, "{others} of 200 have a peg of their own");
        assert!(admitted(&rates, "2001:db8:0:100::1", 1, 9));
        assert!(!admitted(&rates, "2001:db8:0:1ff::2", 1, 9));
    }

    #[test]
    fn all_of_four_billion_are_counted() {
        let rates = Rates::new();
        assert!(admitted(&rates, "192.0.2.1", u32::MAX, u32::MAX));
        assert!(!admitted(&rates, "192.0.2.1", 1, u32::MAX));
        assert!(!admitted(&rates, "192.0.2.1", 0, 0));
    }
}
