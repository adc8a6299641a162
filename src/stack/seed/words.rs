//! Readable names and tweets, made from numbers.

use crate::{
    domain::{DisplayName, Handle, TweetText},
    graph::Random,
};

/// First and last names that make handles of at most 15 characters.
const FIRST: [&str; 40] = [
    "Ada", "Alan", "Amara", "Anton", "Astrid", "Bao", "Bea", "Chidi", "Clara", "Dario", "Dina",
    "Edith", "Emeka", "Farah", "Felix", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jamal", "Jun",
    "Kofi", "Lara", "Leo", "Linus", "Maya", "Mina", "Nadia", "Noah", "Olga", "Omar", "Priya",
    "Quinn", "Rosa", "Sami", "Tara", "Uma", "Viktor", "Yara",
];
const LAST: [&str; 49] = [
    "Abara", "Adler", "Bauer", "Berg", "Blum", "Castro", "Chen", "Conti", "Costa", "Diallo",
    "Dunn", "Ek", "Farah", "Fischer", "Fofana", "Garcia", "Haas", "Hopper", "Ito", "Jensen",
    "Kaya", "Khan", "Kim", "Kovac", "Lang", "Larsen", "Lopez", "Mbeki", "Meyer", "Moreno", "Nair",
    "Novak", "Okoye", "Olsen", "Park", "Patel", "Petrov", "Quist", "Rossi", "Sato", "Silva",
    "Singh", "Sousa", "Tanaka", "Torres", "Vega", "Weber", "Wolf", "Zhang",
];
const NAMES: u64 = FIRST.len() as u64 * LAST.len() as u64;
/// Neighbours get names that are far apart: a number that has no divisor in common with [`NAMES`].
const STRIDE: u64 = 1_009;

/// The handle and the display name of user `n`. Every user of a seed has another handle.
///
/// # Panics
/// Never: a test makes all names.
pub(super) fn person(seed: u64, n: u32) -> (Handle, DisplayName) {
    let place = (u64::from(n) * STRIDE + seed % NAMES) % NAMES;
    let (first, last) = (place / LAST.len() as u64, place % LAST.len() as u64);
    let (first, last) = (FIRST[first as usize], LAST[last as usize]);
    // When all names are used up, a number makes the difference.
    let handle =
        if u64::from(n) < NAMES { format!("{first}_{last}") } else { format!("{first}{n}") };
    let handle = Handle::parse(&handle).expect("letters and digits, few enough");
    (handle, DisplayName::parse(&format!("{first} {last}")).expect("letters, few enough"))
}

/// What tweets are made of: `{a}` and the like stand for one of [`TOPICS`], and so on.
const FORMS: [&str; 32] = [
    "Good morning from {p}. Coffee first, {t} later.",
    "Three hours into {t} and I finally understand why everybody warned me.",
    "Does anybody have a good book on {t}? Asking for {w}.",
    "Unpopular opinion: {t} is just {t2} with better marketing.",
    "Today I learned that {t} and {t2} have more in common than I thought.",
    "The light over {p} this evening. No picture does it justice.",
    "{w} just explained {t} to me in two sentences. I am speechless.",
    "Rewrote the whole thing over the weekend. It is half as long and works. {t} was the key.",
    "Looking for people in {p} who care about {t}. Say hello!",
    "If your plan for {t} fits on one page, it is a plan. If not, it is a wish.",
    "Rain in {p}, soup on the stove, {t} on the desk. A fine Sunday.",
    "Reminder: you are allowed to enjoy {t} without being good at it.",
    "Overheard in {p}: \"Nobody ever regretted less {t}.\"",
    "I have opinions about {t} and I am not afraid to use them.",
    "My talk about {t} was accepted! See you in {p}.",
    "The best part of {t} is the people who do it with you.",
    "Spent the day with {w} at the museum in {p}. We only argued about {t} once.",
    "What is the smallest thing that made {t} click for you?",
    "A thread about {t}: it is complicated. End of thread.",
    "Missed the last train from {p} because of {t}. Worth it.",
    "{t} before breakfast, {t2} after dinner. In between: meetings.",
    "Shipped it. Small, boring, done. Thank you {w} for the review.",
    "Hot take: everything I know about {t} I learned from {w}.",
    "If you are new to {t}: it gets easier, then harder, then fun.",
    "Found my notes on {t} from ten years ago. I was so sure of everything.",
    "The market in {p} has the best plums right now. That is the whole tweet.",
    "Yes, I did talk about {t} at a wedding. No, I regret nothing.",
    "Measured it twice. {t} is not the problem. {t2} is.",
    "Someone in {p} plays the trumpet every evening at nine. I would miss it.",
    "Two kinds of people: those who love {t} and those who have not tried it with {w}.",
    "Question for the timeline: {t} or {t2}, and why?",
    "Long walk around {p} with {w}. Solved nothing, feel better.",
];
const TOPICS: [&str; 32] = [
    "bird watching",
    "distributed systems",
    "sourdough",
    "trail running",
    "old synthesizers",
    "gardening",
    "chess endings",
    "typography",
    "bicycle repair",
    "jazz harmony",
    "Rust",
    "Go",
    "SQL",
    "pottery",
    "astronomy",
    "cold swimming",
    "map making",
    "choir singing",
    "calligraphy",
    "beekeeping",
    "film cameras",
    "crosswords",
    "queueing theory",
    "woodworking",
    "knitting",
    "table tennis",
    "night trains",
    "compilers",
    "mountain weather",
    "origami",
    "fermentation",
    "graph theory",
];
const PLACES: [&str; 16] = [
    "Lisbon",
    "Nairobi",
    "Kyoto",
    "Montevideo",
    "Tromsø",
    "Bologna",
    "Accra",
    "Porto",
    "Tbilisi",
    "Hanoi",
    "Valparaíso",
    "Gdańsk",
    "Leipzig",
    "Oaxaca",
    "Pune",
    "Wellington",
];
const WITH: [&str; 12] = [
    "my sister",
    "a friend",
    "my neighbour",
    "the new colleague",
    "my grandmother",
    "a stranger",
    "the team",
    "my flatmate",
    "my teacher",
    "an old friend",
    "my daughter",
    "the librarian",
];

/// The text of tweet `n`.
///
/// # Panics
/// Never: a test makes texts of every form.
pub(super) fn text(seed: u64, n: u64) -> TweetText {
    // Each tweet has a sequence of its own, so that any can be made without those before it.
    let mut random = Random::new(seed ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut one_of = |words: &[&'static str]| words[random.below(words.len() as u64) as usize];
    let form = one_of(&FORMS);
    let mut text = String::with_capacity(form.len() + 40);
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('{') {
        let (slot, behind) = after.split_once('}').expect("every brace is closed");
        text.push_str(before);
        let word = match slot {
            "p" => one_of(&PLACES),
            "w" => one_of(&WITH),
            _ => one_of(&TOPICS),
        };
        push_word(&mut text, word);
        rest = behind;
    }
    text.push_str(rest);
    TweetText::parse(&text).expect("short enough")
}

/// Adds a word, with a capital letter at the beginning of a sentence.
fn push_word(text: &mut String, word: &str) {
    let begins = text.is_empty() || text.ends_with(". ") || text.ends_with(": ");
    let mut letters = word.chars();
    match letters.next() {
        Some(first) if begins => text.extend(first.to_uppercase()),
        Some(first) => text.push(first),
        None => {}
    }
    text.push_str(letters.as_str());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_user_has_another_handle_and_the_first_have_no_numbers() {
        let handles: BTreeSet<String> =
            (0..5_000).map(|n| person(7, n).0.as_str().to_owned()).collect();
        assert_eq!(handles.len(), 5_000);
        assert!((0..962).all(|n| !person(1, n).0.as_str().contains(char::is_numeric)));
        // The longest name with the largest number.
        assert!((0..40).all(|n| person(1, 0x07ff_ffff - n).0.as_str().len() <= 15));
        assert_ne!(person(1, 0), person(2, 0));
    }

    #[test]
    fn texts_are_whole_sentences_and_differ() {
        let texts: Vec<TweetText> = (0..4_000).map(|n| text(3, n)).collect();
        for text in &texts {
            assert!(!text.as_str().contains(['{', '}']), "{text:?}");
            assert!(text.as_str().starts_with(|c: char| c.is_uppercase()), "{text:?}");
        }
        let different: BTreeSet<&str> = texts.iter().map(TweetText::as_str).collect();
        assert!(different.len() > 2_000, "{}", different.len());
        assert_eq!(text(3, 17), texts[17]);
    }
}
