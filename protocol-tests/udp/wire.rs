//! The binary protocol as words: `binary set key=k extras=0000000700000000 value=abc`.
//!
//! Sent, a line names the opcode and the fields that are not what they would be by themselves:
//! `magic` `keylen` `extlen` `datatype` `vbucket` `bodylen` `opaque` `cas` in decimal, `extras` in
//! hex, `key`, and `value`, which takes the rest of the line. Heard, a line shows what of `status`
//! `opaque` `cas` `extras` `key` `value` is not zero or empty, in this order.

const HEADER_LEN: usize = 24;

const OPCODES: &[(u8, &str)] = &[
    (0x00, "get"),
    (0x01, "set"),
    (0x02, "add"),
    (0x03, "replace"),
    (0x04, "delete"),
    (0x05, "incr"),
    (0x06, "decr"),
    (0x07, "quit"),
    (0x08, "flush"),
    (0x09, "getq"),
    (0x0a, "noop"),
    (0x0b, "version"),
    (0x0c, "getk"),
    (0x0d, "getkq"),
    (0x0e, "append"),
    (0x0f, "prepend"),
    (0x10, "stat"),
    (0x11, "setq"),
    (0x12, "addq"),
    (0x13, "replaceq"),
    (0x14, "deleteq"),
    (0x15, "incrq"),
    (0x16, "decrq"),
    (0x17, "quitq"),
    (0x19, "appendq"),
    (0x1a, "prependq"),
    (0x1c, "touch"),
    (0x1d, "gat"),
    (0x20, "sasl_list"),
    (0x55, "unknown"),
];

fn name(opcode: u8) -> String {
    let known = OPCODES.iter().find(|(known, _)| *known == opcode);
    known.map_or_else(|| format!("{opcode:#04x}"), |(_, name)| (*name).to_string())
}

/// The frame that a line names.
pub(crate) fn encode(line: &[u8]) -> Result<Vec<u8>, String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let at = line.windows(7).position(|seven| seven == b" value=");
    let (words, value) = at.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 7..]));
    let mut words = words.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let opcode = words.next().map(text).unwrap_or_default();
    let opcode = OPCODES.iter().find(|(_, name)| *name == opcode).ok_or("unknown opcode")?.0;
    let (mut key, mut extras) = (&b""[..], Vec::new());
    let mut numbers: Vec<(String, u64)> = Vec::new();
    for word in words {
        let equals = word.iter().position(|&byte| byte == b'=').ok_or("a field without `=`")?;
        let (name, content) = (&word[..equals], &word[equals + 1..]);
        match name {
            b"key" => key = content,
            b"extras" => extras = unhex(content)?,
            _ => numbers.push((text(name), text(content).parse().map_err(|_| "no number")?)),
        }
    }
    let mut field = |name: &str, default: usize| -> u64 {
        let given = numbers.iter().position(|(given, _)| given == name);
        given.map_or(default as u64, |at| numbers.swap_remove(at).1)
    };
    let low = |number: u64, bytes: usize| number.to_be_bytes()[8 - bytes..].to_vec();
    let mut frame = low(field("magic", 0x80), 1);
    frame.push(opcode);
    frame.extend(low(field("keylen", key.len()), 2));
    frame.extend(low(field("extlen", extras.len()), 1));
    frame.extend(low(field("datatype", 0), 1));
    frame.extend(low(field("vbucket", 0), 2));
    frame.extend(low(field("bodylen", extras.len() + key.len() + value.len()), 4));
    frame.extend(low(field("opaque", 0), 4));
    frame.extend(low(field("cas", 0), 8));
    for part in [&extras, key, value] {
        frame.extend_from_slice(part);
    }
    match numbers.first() {
        Some((unknown, _)) => Err(format!("unknown field `{unknown}`")),
        None => Ok(frame),
    }
}

fn unhex(digits: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or("`extras` wants hex digits");
    let byte = |two: &[u8]| match *two {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|_| "no byte"),
        _ => Err("`extras` wants two digits a byte"),
    };
    digits.chunks(2).map(|two| byte(two).map_err(str::to_string)).collect()
}

/// A message's frames, a line each; a text message as it is.
pub(crate) fn render(message: &[u8]) -> Vec<u8> {
    if message.first() != Some(&0x81) {
        return message.to_vec();
    }
    let (mut lines, mut rest) = (Vec::new(), message);
    while let Some((header, body)) = rest.split_first_chunk::<HEADER_LEN>() {
        let number = |from: usize, to: usize| {
            header[from..to].iter().fold(0, |n: u64, &byte| n << 8 | u64::from(byte))
        };
        let len = |from, to| usize::try_from(number(from, to)).unwrap();
        let (key_len, extras_len, body_len) = (len(2, 4), len(4, 5), len(8, 12));
        if header[0] != 0x81 || body_len > body.len() || extras_len + key_len > body_len {
            break;
        }
        let (body, behind) = body.split_at(body_len);
        lines.extend_from_slice(format!("binary {}", name(header[1])).as_bytes());
        for (field, number) in
            [("status", number(6, 8)), ("opaque", number(12, 16)), ("cas", number(16, 24))]
        {
            if number != 0 {
                lines.extend_from_slice(format!(" {field}={number}").as_bytes());
            }
        }
        let (extras, body) = body.split_at(extras_len);
        let (key, value) = body.split_at(key_len);
        let extras: String = extras.iter().map(|byte| format!("{byte:02x}")).collect();
        for (field, content) in [("extras", extras.as_bytes()), ("key", key), ("value", value)] {
            if !content.is_empty() {
                lines.extend_from_slice(format!(" {field}=").as_bytes());
                lines.extend_from_slice(content);
            }
        }
        lines.extend_from_slice(b"\r\n");
        rest = behind;
    }
    if !rest.is_empty() {
        lines.extend_from_slice(b"no frame: ");
        lines.extend_from_slice(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_the_frame_that_it_names() {
        let frame = encode(b"set key=k extras=0a0b opaque=7 cas=258 value=a b").unwrap();
        let header = b"\x80\x01\0\x01\x02\0\0\0\0\0\0\x06\0\0\0\x07\0\0\0\0\0\0\x01\x02";
        assert_eq!(frame, [&header[..], b"\x0a\x0bka b"].concat());
        assert_eq!(
            encode(b"noop bodylen=9 keylen=8").unwrap()[..12],
            *b"\x80\x0a\0\x08\0\0\0\0\0\0\0\x09"
        );
        for wrong in ["", "gets", "get k", "get size=3", "get extras=0", "get opaque=x"] {
            assert!(encode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_are_shown_a_line_each_and_what_is_none_as_it_is() {
        let hit = b"\x81\0\0\0\x04\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x07v";
        let miss = [&b"\x81\x04\0\0\0\0\0\x01"[..], &[0; 16]].concat();
        let shown =
            "binary get opaque=1 cas=2 extras=00000007 value=v\r\nbinary delete status=1\r\n";
        assert_eq!(render(&[&hit[..], &miss].concat()), shown.as_bytes());
        assert_eq!(render(&hit[..28]), [b"no frame: ", &hit[..28]].concat());
        assert_eq!(render(b"END\r\n"), b"END\r\n");
    }
}
