use super::*;

/// A reply to `set` with opaque 7.
fn reply(status: u8, cas: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u8::try_from(part.len()).unwrap();
    let all = length(extras) + length(key) + length(value);
    let mut bytes = vec![0x81, 1, 0, length(key), length(extras), 0, 0, status];
    bytes.extend_from_slice(&[0, 0, 0, all, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, cas]);
    [&bytes, extras, key, value].concat()
}

fn fits(line: &str, answer: &[u8]) -> bool {
    Frame::reply(line).unwrap().fits(answer, &mut Memory::new(), 0)
}

#[test]
fn a_request_is_the_bytes_that_the_protocol_wants() {
    let bytes = request("set key=foo flags=5 exp=0x100 value=b\\sr opaque=7 cas=9");
    let header = b"\x80\x01\0\x03\x08\0\0\0\0\0\0\x0e\0\0\0\x07\0\0\0\0\0\0\0\x09";
    assert_eq!(bytes, [&header[..], b"\0\0\0\x05\0\0\x01\0foob r"].concat());
    assert_eq!(request("incr key=n delta=1 initial=2 exp=3").len(), 24 + 20 + 1);
    assert_eq!((request("flush").len(), request("flush exp=0").len()), (24, 28));
    let lying = request("0x30 magic=0x81 keylen=9 extlen=2 datatype=1 vbucket=3 bodylen=5");
    assert_eq!(lying[..12], *b"\x81\x30\0\x09\x02\x01\0\x03\0\0\0\x05");
}

#[test]
fn a_reply_fits_only_when_every_field_does() {
    assert!(fits("set opaque=7 cas={number}", &reply(0, 3, b"", b"", b"")));
    assert!(!fits("set opaque=7 cas={number}", &reply(0, 0, b"", b"", b"")), "a cas of 0");
    assert!(!fits("set opaque=7", &reply(0, 3, b"", b"", b"")), "a cas not expected");
    assert!(!fits("set cas=3", &reply(0, 3, b"", b"", b"")), "another opaque");
    assert!(!fits("add opaque=7 cas=3", &reply(0, 3, b"", b"", b"")), "another opcode");
    assert!(fits("set opaque=7 status=1", &reply(1, 0, b"", b"", b"Not found")));
    assert!(!fits("set opaque=7 status=1", &reply(1, 0, b"", b"", b"")), "without its text");
    assert!(!fits("set opaque=7", &reply(0, 0, b"", b"k", b"")), "a key not expected");
    assert!(fits("set opaque=7 flags=9 key=k", &reply(0, 0, b"\0\0\0\x09", b"k", b"")));
    assert!(!fits("set opaque=7 key=k", &reply(0, 0, b"\0\0\0\x09", b"k", b"")), "extras");
    assert!(fits("set opaque=7 number=5", &reply(0, 0, b"", b"", b"\0\0\0\0\0\0\0\x05")));
    assert!(!fits("set opaque=7 number=5", &reply(0, 0, b"", b"", b"5")));
    let mut data_type = reply(0, 0, b"", b"", b"");
    data_type[5] = 1;
    assert!(!fits("set opaque=7", &data_type));
}

#[test]
fn a_unique_is_remembered_and_sent_again() {
    let mut memory = Memory::new();
    let learned = Frame::reply("set opaque=7 cas={c=number}").unwrap();
    assert!(learned.fits(&reply(0, 77, b"", b"", b""), &mut memory, 0));
    let again = Frame::request("delete key=k cas={c}").unwrap();
    assert!(again.needs_memory());
    assert_eq!(again.bytes(&memory, 0).unwrap()[23], 77);
}

#[test]
fn a_line_that_is_no_frame_is_refused_with_its_reason() {
    for (line, reason) in [
        ("sett key=k", "unknown opcode `sett`"),
        ("0x1ff", "one byte"),
        ("get key", "no `field=value`"),
        ("get kye=k", "unknown field `kye`"),
        ("get key=k flags=1", "has no `flags`"),
        ("get key=k key=l", "`key` twice"),
        ("get status=1", "has no `status`"),
        ("set key=k extras=a exp=1", "all of the extras"),
        ("get opaque=many", "opaque: `many` is no number"),
        ("get vbucket=0x10000", "does not fit into 2 bytes"),
        ("get key={word}", "exactly what is sent"),
    ] {
        let wrong = Frame::request(line).unwrap_err();
        assert!(wrong.contains(reason), "{line}: {wrong}");
    }
    assert!(Frame::reply("get exp=1").unwrap_err().contains("has no `exp`"));
    assert!(Frame::reply("incr number=1 value=a").unwrap_err().contains("one of them"));
}

#[test]
fn what_a_server_said_is_shown_as_lines() {
    let said = [reply(1, 0, b"", b"", b"Not found"), b"x".to_vec()].concat();
    let shown = show(&said);
    assert_eq!(shown, "set status=0x01 value=Not\\sfound cas=0 opaque=7; [no frame:] x");
}
