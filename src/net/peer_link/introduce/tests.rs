use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// Two ends of a connection over loopback: who dialled, and who accepted.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (dialled, listener.accept().await.unwrap().0)
}

fn knows(secret: &str) -> Introductions {
    Introductions::new((!secret.is_empty()).then_some(secret.as_bytes()), None)
}

/// How the two sides end up.
async fn met(
    dials: Introductions,
    accepts: Introductions,
) -> (Result<Box<dyn Stream>, Stranger>, Result<Box<dyn Stream>, Stranger>) {
    let (ours, theirs) = pair().await;
    tokio::join!(dials.dial(ours), accepts.accept(theirs))
}

#[tokio::test]
async fn both_sides_with_the_same_secret_or_with_none_meet_and_talk() {
    for secret in ["", "correct horse battery"] {
        let (dialled, accepted) = met(knows(secret), knows(secret)).await;
        let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        dialled.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello", "nothing of the introduction is left over");
    }
}

#[tokio::test]
async fn another_secret_or_none_is_refused_with_its_reason() {
    let (dialled, accepted) = met(knows("one secret of ours"), knows("another of theirs")).await;
    assert!(matches!(accepted, Err(Stranger::WrongSecret)));
    assert!(matches!(dialled, Err(Stranger::Gone(_))));
    for (dials, accepts) in [("", "a secret"), ("a secret", "")] {
        let (dialled, accepted) = met(knows(dials), knows(accepts)).await;
        assert!(matches!(accepted, Err(Stranger::OtherManner)), "{dials:?}");
        assert!(dialled.is_err());
    }
}

#[tokio::test]
async fn a_secret_that_replaces_another_counts_for_connections_to_come() {
    let (ours, old, new) = (knows("a secret of ours"), "a secret of ours", "another one of ours");
    let (mut before, mut its) = {
        let (dialled, accepted) = met(ours.clone(), knows(old)).await;
        (dialled.unwrap(), accepted.unwrap())
    };
    ours.replace_by(&knows(new));
    assert!(met(knows(old), ours.clone()).await.1.is_err());
    assert!(met(knows(new), ours.clone()).await.1.is_ok());
    assert!(met(ours.clone(), knows(new)).await.0.is_ok());
    before.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    its.read_exact(&mut heard).await.unwrap();
}

/// What an accepting node says to somebody who sends `bytes` and then waits.
async fn told(accepts: Introductions, bytes: &[u8]) -> (Vec<u8>, Stranger) {
    let (mut ours, theirs) = pair().await;
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move { accepts.accept(theirs).await.err() });
    ours.write_all(bytes).await.unwrap();
    let stranger = tasks.join_next().await.unwrap().unwrap().expect("a stranger");
    let mut heard = Vec::new();
    // Bytes that were not read make the end a reset.
    let _ = ours.read_to_end(&mut heard).await;
    (heard, stranger)
}

#[tokio::test]
async fn a_scan_or_a_health_check_is_told_nothing() {
    tokio::task::LocalSet::new()
        .run_until(async {
            for bytes in [
                &b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"[..],
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"version\r\n",
                b"rep k 0 0 1 1\r\na\r\n",
                &[0; 100_000],
            ] {
                for secret in ["", "correct horse battery"] {
                    let (heard, stranger) = told(knows(secret), bytes).await;
                    assert_eq!(heard, b"");
                    assert!(matches!(stranger, Stranger::NoPeer), "{stranger}");
                    assert!(stranger.is_anybody());
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_proof_cannot_be_handed_back_to_whom_it_came_from() {
    let (mut ours, theirs) = pair().await;
    let accepts = knows("correct horse battery");
    let accepted = accepts.accept(theirs);
    let mirror = async {
        // The attacker has no secret: he lets the node itself make a proof over the same bytes, by
        // accepting its own dial, and hands that on.
        let (dialled, mut fooled) = pair().await;
        let dials = knows("correct horse battery");
        let dialling = dials.dial(dialled);
        let relay = async {
            let mut hello = [0; LINE + NONCE];
            fooled.read_exact(&mut hello).await.unwrap();
            // Their nonce comes back as ours, so that both proofs are over the same bytes, reversed.
            ours.write_all(&hello).await.unwrap();
            let mut answer = [0; LINE + NONCE];
            ours.read_exact(&mut answer).await.unwrap();
            fooled.write_all(&hello).await.unwrap();
            let mut proof = [0; PROOF];
            fooled.read_exact(&mut proof).await.unwrap();
            ours.write_all(&proof).await.unwrap();
            ours.shutdown().await.unwrap();
            drop(fooled);
        };
        tokio::join!(dialling, relay).0
    };
    let (accepted, dialled) = tokio::join!(accepted, mirror);
    assert!(matches!(accepted, Err(Stranger::WrongSecret)));
    assert!(dialled.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_given_up() {
    let (silent, theirs) = pair().await;
    let stranger = knows("correct horse battery").accept(theirs).await.err().unwrap();
    assert!(matches!(stranger, Stranger::Slow), "{stranger}");
    drop(silent);
}
