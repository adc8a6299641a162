//! Which node of a cluster serves which key.

use redis::Value;

/// Slots of a cluster.
pub(super) const SLOTS: usize = 16_384;

/// What decides where a key lives: the text inside its first braces, or all of it.
pub(super) fn tag_of(key: &str) -> &str {
    let inside = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    inside.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// The slot of a key.
pub(super) fn slot_of(key: &str) -> usize {
    usize::from(crc16(tag_of(key).as_bytes())) % SLOTS
}

/// CRC-16/XMODEM, as the cluster's specification says.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    })
}

/// Slots `first..=last` and the address of the primary that serves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) address: String,
}

/// The answer to `CLUSTER SLOTS` of the node at `asked`; `None` if it is not one.
pub(super) fn ranges(answer: &Value, asked: &str) -> Option<Vec<Range>> {
    let Value::Array(rows) = answer else { return None };
    rows.iter().map(|row| range(row, asked)).collect()
}

fn range(row: &Value, asked: &str) -> Option<Range> {
    let Value::Array(row) = row else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = row.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        _ => "",
    };
    // A node that does not know its own name means: as you reached me.
    let address = match host {
        "" | "?" => format!("{}:{port}", asked.rsplit_once(':')?.0),
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    };
    let slot = |number: i64| usize::try_from(number).ok().filter(|&slot| slot < SLOTS);
    Some(Range { first: slot(*first)?, last: slot(*last)?, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_live_where_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("chirp:tl:{foo}"), 12_182);
        assert_eq!(slot_of("{}foo"), usize::from(crc16(b"{}foo")) % SLOTS);
    }

    #[test]
    fn the_table_of_a_cluster_is_read() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |host, port| Value::Array(vec![text(host), Value::Int(port), text("id")]);
        let row = |first, last, node| {
            Value::Array(vec![Value::Int(first), Value::Int(last), node, Value::Nil])
        };
        let answer = Value::Array(vec![row(0, 9, node("a", 1)), row(10, 16_383, node("", 2))]);
        let found = ranges(&answer, "seed:7").unwrap();
        let expected = |first, last, address: &str| Range { first, last, address: address.into() };
        assert_eq!(found, [expected(0, 9, "a:1"), expected(10, 16_383, "seed:2")]);
        assert_eq!(ranges(&Value::Array(vec![row(0, 20_000, node("a", 1))]), "seed:7"), None);
    }
}
