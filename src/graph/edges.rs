//! Lists of edges, as the Stanford Network Analysis Project (SNAP) gives them: a line per edge with two
//! numbers, who follows and who is followed, white space between; lines that begin with `#` say nothing.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use super::rows::{Graph, Rows};

/// The longest line, in bytes: two numbers of 20 digits, and much white space.
const LINE_MAX: u64 = 256;
/// The most edges: rows count them by 32 bits.
const EDGES_MAX: usize = u32::MAX as usize;

/// A list that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Its edges; users are numbered by the order of their numbers in the list.
    pub graph: Graph,
    /// The number of each user in the list.
    pub names: Vec<u64>,
    /// Lines that said an edge again.
    pub repeated: usize,
    /// Lines in which somebody follows themself.
    pub loops: usize,
}

/// Why a list is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is not two numbers.
    #[error("line {line}: {why}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It has no edges.
    #[error("it has no edges")]
    Empty,
    /// It has more edges than can be numbered.
    #[error("it has more than {EDGES_MAX} edges")]
    TooMany,
}

/// Reads a list.
///
/// # Errors
/// [`ReadError`].
pub fn read(mut from: impl BufRead) -> Result<Read, ReadError> {
    let (mut pairs, mut loops) = (Vec::new(), 0);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let length = io::Read::take(&mut from, LINE_MAX + 1).read_until(b'\n', &mut bytes)?;
        if length == 0 {
            break;
        }
        match edge(&bytes).map_err(|why| ReadError::Line { line, why })? {
            None => {}
            Some((from, to)) if from == to => loops += 1,
            Some(_) if pairs.len() == EDGES_MAX => return Err(ReadError::TooMany),
            Some(pair) => pairs.push(pair),
        }
    }
    if pairs.is_empty() {
        return Err(ReadError::Empty);
    }
    let said = pairs.len();
    pairs.sort_unstable();
    pairs.dedup();
    let mut numbers: BTreeMap<u64, u32> =
        pairs.iter().flat_map(|&(a, b)| [(a, 0), (b, 0)]).collect();
    for (number, place) in numbers.values_mut().zip(0..) {
        *number = place;
    }
    let mut offsets = vec![0_u32; numbers.len() + 1];
    for (from, _) in &pairs {
        offsets[numbers[from] as usize + 1] += 1;
    }
    for user in 0..numbers.len() {
        offsets[user + 1] += offsets[user];
    }
    let repeated = said - pairs.len();
    // The order of numbers is that of users, so the rows are sorted.
    let others = pairs.into_iter().map(|(_, to)| numbers[&to]).collect();
    let names = numbers.into_keys().collect();
    Ok(Read { graph: Graph::new(Rows::new(offsets, others)), names, repeated, loops })
}

/// The two numbers of a line; `None` if it says nothing.
fn edge(line: &[u8]) -> Result<Option<(u64, u64)>, &'static str> {
    if line.len() as u64 > LINE_MAX {
        return Err("it is longer than 256 bytes");
    }
    let text = std::str::from_utf8(line).map_err(|_| "it is not text")?;
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Ok(None),
        (Some(first), ..) if first.starts_with('#') => Ok(None),
        (Some(from), Some(to), None) => match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) => Ok(Some((from, to))),
            _ => Err("it must have two numbers"),
        },
        _ => Err("it must have two numbers"),
    }
}

/// Writes `graph` as a list.
///
/// # Errors
/// What `to` says.
pub fn write(graph: &Graph, mut to: impl Write) -> io::Result<()> {
    writeln!(to, "# Nodes: {} Edges: {}", graph.users(), graph.edges())?;
    writeln!(to, "# FromNodeId\tToNodeId")?;
    for user in graph.following.users() {
        for other in graph.following.of(user) {
            writeln!(to, "{user}\t{other}")?;
        }
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Shape, generate},
        *,
    };

    #[test]
    fn a_list_is_read_with_its_own_numbers_and_without_what_says_nothing_new() {
        let text = "# FromNodeId ToNodeId\n900 7\n7\t20\n\n900 7\r\n20 20\n  7   900  \n";
        let read = read(text.as_bytes()).unwrap();
        assert_eq!(read.names, [7, 20, 900]);
        assert_eq!((read.repeated, read.loops), (1, 1));
        let rows = |user| (read.graph.following.of(user), read.graph.followers.of(user));
        assert_eq!(rows(0), (&[1, 2][..], &[2][..]));
        assert_eq!(rows(1), (&[][..], &[0][..]));
        assert_eq!(rows(2), (&[0][..], &[0][..]));
    }

    #[test]
    fn a_line_that_is_no_edge_is_named() {
        for (text, line, why) in [
            ("1 2\n3\n", 2, "two numbers"),
            ("1 2 3\n", 1, "two numbers"),
            ("1 x\n", 1, "two numbers"),
            ("-1 2\n", 1, "two numbers"),
            ("1 99999999999999999999\n", 1, "two numbers"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")) && error.contains(why), "{error}");
        }
        let long = format!("1 2\n{}", "7".repeat(1 << 20));
        let error = read(long.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "line 2: it is longer than 256 bytes");
        let error = read(&b"1 2\n\xff\xfe 1\n"[..]).unwrap_err().to_string();
        assert_eq!(error, "line 2: it is not text");
        assert!(matches!(read(&b"# nothing\n"[..]), Err(ReadError::Empty)));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let graph = generate(&Shape::new(7, 500, 5_000)).unwrap();
        let mut text = Vec::new();
        write(&graph, &mut text).unwrap();
        let read = read(&text[..]).unwrap();
        // Whoever has no edge is in no line.
        let whole = read.names.len() == 500;
        assert!(!whole || read.graph == graph);
        assert_eq!(read.graph.edges(), graph.edges());
    }
}
