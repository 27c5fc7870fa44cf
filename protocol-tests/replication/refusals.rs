//! What clients are told where the operator prefers a refusal to a write that one node alone has.

use crate::client::wait_until;
use crate::frame::request;
use crate::udp::caller::Caller;

use super::cluster::Plan;
use super::port::free_port;

const REFUSED: &str = "SERVER_ERROR replication timeout\r\n";

#[test]
fn a_change_that_no_peer_has_in_time_is_answered_with_an_error_in_every_protocol() {
    let ports = [free_port(), free_port()];
    let [one, other] = ports.map(|port| port.to_string());
    let flags = ["--ack-fallback", "error", "--ack-timeout", "1500"];
    let plan = Plan::of(2).with(&flags).with_at(0, &["-U", &one]).with_at(1, &["-U", &other]);
    let mut cluster = plan.start();
    for (near, far) in [(0, 1), (1, 0)] {
        let mut clients = [(); 4].map(|()| cluster.client(near));
        let address = ([127, 0, 0, 1], ports[near]).into();
        let mut caller = Caller::between("127.0.0.1", address);
        clients[0].set("old", b"1");
        let refused = cluster.nodes[near].told("ack_refused");
        cluster.nodes[far].freeze();
        let [text, meta, framed, quiet] = &mut clients;
        text.send(
            "get old\r\nset t 0 0 1\r\n1\r\ndelete old\r\nset q 0 0 1 noreply\r\n1\r\nget t\r\n",
        );
        meta.send("ms m 1\r\n1\r\nms q2 1 q\r\n1\r\nmg m v\r\n");
        let frames =
            ["get key=none", "set key=b value=1 opaque=7", "incr key=n initial=5 opaque=8"];
        framed.send([&frames.map(request)[..], &[request("get key=b opaque=9")]].concat().concat());
        let frames = ["setq key=b2 value=1", "gatq key=b2 exp=100 opaque=3", "noop"];
        quiet.send(frames.map(request).concat());
        let by_datagram = caller.ask("set u 0 0 1\r\n1\r\n").unwrap();
        assert_eq!(String::from_utf8(by_datagram).unwrap(), REFUSED);
        text.expect(format!(
            "VALUE old 0 1\r\n1\r\nEND\r\n{REFUSED}{REFUSED}VALUE t 0 1\r\n1\r\nEND\r\n"
        ));
        meta.expect(format!("{REFUSED}VA 1\r\n1\r\n"));
        framed.expect_frame("get status=0x01");
        framed.expect_frame(r"set status=0x86 value=Replication\stimeout opaque=7");
        framed.expect_frame(r"incr status=0x86 value=Replication\stimeout opaque=8");
        framed.expect_frame("get flags=0 value=1 cas={c=number} opaque=9");
        quiet.expect_frame(r"gatq status=0x86 value=Replication\stimeout opaque=3");
        quiet.expect_frame("noop");
        assert_eq!(cluster.nodes[near].told("ack_refused"), refused + 7);
        clients.iter_mut().take(2).for_each(|client| assert!(client.is_served()));
        clients[2].ask_frame("noop", "noop");
        assert_eq!(caller.ask("get u\r\n").unwrap(), b"VALUE u 0 1\r\n1\r\nEND\r\n");
        // What was refused so has been done here, and peers hear of it when they can.
        cluster.nodes[far].thaw();
        cluster.wait_until_in_sync();
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(held.keys().collect::<Vec<_>>(), ["b", "b2", "m", "n", "q", "q2", "t", "u"]);
        cluster.client(near).ask("flush_all\r\n", "OK\r\n");
    }
}

#[test]
fn a_large_answer_is_withdrawn_with_the_rest_of_it() {
    let flags = ["--ack-fallback", "error", "--ack-timeout", "300"];
    let mut cluster = Plan::of(2).with(&flags).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let mut client = cluster.client(near);
        client.set("k", &vec![b'x'; 1_000_000]);
        cluster.nodes[far].freeze();
        client.ask("gat 100 k\r\nversion\r\n", REFUSED);
        assert!(client.line().starts_with(b"VERSION "));
        cluster.nodes[far].thaw();
        cluster.wait_until_in_sync();
        assert_eq!(client.get("k").unwrap().len(), 1_000_000);
    }
}

#[test]
fn with_fallback_error_a_write_without_a_peer_is_refused_and_nothing_is_stored() {
    let mut cluster = Plan::of(2).with(&["--ack-fallback", "error"]).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let mut client = cluster.client(near);
        client.set("k", b"1");
        cluster.nodes[far].kill();
        wait_until("its death is noticed", || cluster.nodes[near].told("peers_awaited") == 0);
        for request in [
            "set k 0 0 1\r\n2\r\n",
            "delete k\r\n",
            "touch k 10\r\n",
            "incr k 1\r\n",
            "flush_all\r\n",
        ] {
            client.ask(request, REFUSED);
        }
        let mut framed = cluster.client(near);
        for request in ["set key=k value=2", "setq key=k value=2", "deleteq key=k"] {
            let opcode = request.split(' ').next().unwrap();
            framed.ask_frame(request, &format!(r"{opcode} status=0x86 value=Replication\stimeout"));
        }
        assert_eq!(client.get("k").as_deref(), Some(&b"1"[..]));
        cluster.nodes[far].start();
        cluster.wait_until_in_sync();
        client.set("k", b"3");
        assert_eq!(cluster.client(far).get("k").as_deref(), Some(&b"3"[..]));
    }
}
