//! How a graph is made: Chung and Lu's model by an alias table, in constant time per edge.
//!
//! 1. Followees: each user gets a number of them by a lognormal distribution; the sum is exact.
//! 2. Some users are chosen to follow user 0, the largest account: the model alone cannot make an
//!    account that a third of all follow.
//! 3. Whom users follow otherwise is drawn by weight: user `i` weighs (i + s)^(-1 / (exponent - 1)),
//!    which gives followers by the exponent (Chung and Lu 2002). The shift `s` keeps the second largest
//!    account below half of the largest. Who is drawn twice is drawn anew.
//! 4. Of these edges so many are returned as the shape says, each with the same chance.

use super::{
    alias::Alias,
    random::Random,
    rows::{Graph, Rows},
    shape::{Invalid, Shape},
};

/// How often missing followees are drawn, before the first users that are missing are taken.
const ROUNDS_MAX: u32 = 64;

/// Makes the graph of a shape: always the same.
///
/// # Errors
/// A shape that no graph can have.
pub fn generate(shape: &Shape) -> Result<Graph, Invalid> {
    shape.validate()?;
    let mut random = Random::new(shape.seed);
    let counts = counts(shape, &mut random);
    let follows_largest = chosen(shape, &counts, &mut random);
    let own = draw(shape, &counts, &follows_largest, &mut random);
    let whole = with_returned(&own, shape.returned(), &mut random);
    Ok(Graph::new(whole))
}

/// How many each user follows of their own accord; their sum is that of the edges that are not
/// returned ones.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down")]
fn counts(shape: &Shape, random: &mut Random) -> Vec<u32> {
    let mut wishes: Vec<f64> =
        (0..shape.users).map(|_| libm::exp(shape.out_sigma * random.normal())).collect();
    let total = shape.edges - shape.returned();
    let max = f64::from(shape.out_max());
    // Who is held at the bound leaves more for the rest: a few turns settle it.
    for _ in 0..8 {
        let sum: f64 = wishes.iter().sum();
        let scale = f64::from(total) / sum;
        for wish in &mut wishes {
            *wish = (*wish * scale).min(max);
        }
    }
    let mut counts = Vec::with_capacity(wishes.len());
    let (mut sum, mut given) = (0.0, 0);
    for wish in wishes {
        sum += wish;
        // Rounded as a running sum, so that the fractions add up.
        let count = (sum as u32).saturating_sub(given).min(shape.out_max()).min(total - given);
        given += count;
        counts.push(count);
    }
    // What rounding has left, one each.
    let mut user = 0;
    while given < total {
        if counts[user] < shape.out_max() {
            counts[user] += 1;
            given += 1;
        }
        user = (user + 1) % counts.len();
    }
    counts
}

/// Chooses who follows the largest account, among those who follow anybody (Knuth, algorithm S).
fn chosen(shape: &Shape, counts: &[u32], random: &mut Random) -> Vec<bool> {
    let may = |user: usize| user > 0 && counts[user] > 0;
    let mut left = (0..counts.len()).filter(|&user| may(user)).count() as u64;
    let mut wanted = u64::from(shape.of_largest()).min(left);
    let mut chosen = vec![false; counts.len()];
    for user in (0..counts.len()).filter(|&user| may(user)) {
        if random.below(left) < wanted {
            chosen[user] = true;
            wanted -= 1;
        }
        left -= 1;
    }
    chosen
}

/// The weights of all users; 0 of the largest, whose followers are chosen.
fn weights(shape: &Shape) -> Vec<f64> {
    let power = -1.0 / (shape.in_exponent - 1.0);
    let drawn = f64::from(shape.edges - shape.returned() - shape.of_largest());
    let runner_up_max = (f64::from(shape.users) * shape.largest.max(0.01) / 2.0).max(1.0);
    let mut shift = 0.0;
    loop {
        let weight = |user: u32| libm::pow(f64::from(user) + shift, power);
        let mut weights: Vec<f64> = (1..shape.users).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        if drawn * weights[0] / sum <= runner_up_max || shift > f64::from(shape.users) {
            weights.insert(0, 0.0);
            return weights;
        }
        shift = if shift == 0.0 { 1.0 } else { shift * 1.5 };
    }
}

fn draw(shape: &Shape, counts: &[u32], follows_largest: &[bool], random: &mut Random) -> Rows {
    let alias = Alias::new(&weights(shape));
    let total = counts.iter().sum::<u32>() as usize;
    let (mut offsets, mut others) =
        (Vec::with_capacity(counts.len() + 1), Vec::with_capacity(total));
    offsets.push(0);
    let mut row: Vec<u32> = Vec::new();
    for (user, (&count, &largest)) in (0..shape.users).zip(counts.iter().zip(follows_largest)) {
        row.clear();
        row.extend(largest.then_some(0));
        for _ in 0..ROUNDS_MAX {
            let missing = count as usize - row.len();
            if missing == 0 {
                break;
            }
            row.extend((0..missing).map(|_| alias.draw(random)).filter(|&other| other != user));
            row.sort_unstable();
            row.dedup();
        }
        fill(&mut row, user, count as usize, shape.users);
        others.extend_from_slice(&row);
        offsets.push(u32::try_from(others.len()).expect("edges are below 2^32"));
    }
    Rows::new(offsets, others)
}

/// Adds the first users that `row` lacks, the largest last.
fn fill(row: &mut Vec<u32>, user: u32, count: usize, users: u32) {
    if row.len() < count {
        let known = row.clone();
        let lacks = |other: &u32| *other != user && known.binary_search(other).is_err();
        row.extend((1..users).chain([0]).filter(lacks).take(count - known.len()));
        row.sort_unstable();
    }
}

/// With `returned` of the edges that are not returned yet also the other way round.
fn with_returned(own: &Rows, returned: u32, random: &mut Random) -> Rows {
    let others_way = own.turned();
    let mut left: u64 = 0;
    for user in own.users() {
        one_way(own.of(user), others_way.of(user), |_| left += 1);
    }
    let mut wanted = u64::from(returned).min(left);
    // Of each user, who is followed back: with the rows in order, in order.
    let (mut offsets, mut others) = (vec![0_u32], Vec::with_capacity(wanted as usize));
    for user in own.users() {
        one_way(own.of(user), others_way.of(user), |other| {
            if random.below(left) < wanted {
                others.push(other);
                wanted -= 1;
            }
            left -= 1;
        });
        offsets.push(u32::try_from(others.len()).expect("edges are below 2^32"));
    }
    drop(others_way);
    let back = Rows::new(offsets, others).turned();
    merged(own, &back)
}

/// Calls `each` with those of `to` who are not in `from`, both in order.
fn one_way(to: &[u32], from: &[u32], mut each: impl FnMut(u32)) {
    let mut from = from.iter().peekable();
    for &other in to {
        while from.next_if(|&&known| known < other).is_some() {}
        if from.peek() != Some(&&other) {
            each(other);
        }
    }
}

/// Rows that have nothing in common, in one.
fn merged(a: &Rows, b: &Rows) -> Rows {
    let total = a.others().len() + b.others().len();
    let (mut offsets, mut others) =
        (Vec::with_capacity(a.offsets().len()), Vec::with_capacity(total));
    offsets.push(0);
    for user in a.users() {
        let mut more = b.of(user).iter().copied().peekable();
        for &other in a.of(user) {
            while let Some(less) = more.next_if(|&less| less < other) {
                others.push(less);
            }
            others.push(other);
        }
        others.extend(more);
        offsets.push(u32::try_from(others.len()).expect("edges are below 2^32"));
    }
    Rows::new(offsets, others)
}

#[cfg(test)]
mod tests {
    use super::{super::stats::Stats, *};

    /// What is wrong with a graph, if anything.
    fn wrong(graph: &Graph) -> Option<String> {
        let mut edges = 0;
        for user in graph.following.users() {
            let row = graph.following.of(user);
            edges += row.len();
            if row.contains(&user) {
                return Some(format!("{user} follows themself"));
            }
            if !row.is_sorted_by(|a, b| a < b) {
                return Some(format!("{user} follows somebody twice"));
            }
            let known = |other: &u32| graph.followers.of(*other).binary_search(&user).is_ok();
            if !row.iter().all(known) {
                return Some(format!("{user} follows somebody who does not know"));
            }
        }
        let known = graph.followers.others().len();
        (edges != known).then(|| format!("{edges} edges one way, {known} the other"))
    }

    #[test]
    fn presets_have_their_size_and_are_the_same_for_ever() {
        const DEMO: &str = "5983c025746121429c8de9178e29e3536753eafd6a8b89ff36a8891c4d156621";
        const TEN_THOUSAND: &str =
            "536364830221d2e652f9a7877aaba2d1e0fb9ff9ac6b8217f723630ebf5856ad";
        for (name, sha256) in [("demo", DEMO), ("10k", TEN_THOUSAND)] {
            let shape = Shape::preset(name, 1).unwrap();
            let graph = generate(&shape).unwrap();
            assert_eq!(wrong(&graph), None, "{name}");
            assert_eq!((graph.users(), graph.edges()), (shape.users, shape.edges as usize));
            assert_eq!(Stats::of(&graph).sha256, sha256, "{name}");
            let other = generate(&Shape { seed: 2, ..shape }).unwrap();
            assert_ne!(graph, other, "{name}");
        }
    }

    #[test]
    fn a_graph_is_as_its_shape_says() {
        for exponent in [2.1, 2.276, 2.8] {
            let shape = Shape {
                in_exponent: exponent,
                reciprocity: 0.3,
                largest: 0.25,
                ..Shape::new(5, 100_000, 2_000_000)
            };
            let graph = generate(&shape).unwrap();
            assert_eq!(wrong(&graph), None);
            let stats = Stats::of(&graph);
            assert_eq!(stats.edges, 2_000_000);
            let found = stats.exponent.unwrap();
            assert!((found - exponent).abs() < 0.1, "{exponent}: {found}");
            assert!((stats.reciprocity - 0.3).abs() < 0.02, "{}", stats.reciprocity);
            assert_eq!(stats.largest, 0);
            assert!((stats.largest_share - 0.25).abs() < 0.01, "{}", stats.largest_share);
            // Of the lognormal distribution: exp(2.326 sigma), less what returned edges even out.
            let spread = f64::from(stats.following.p99) / f64::from(stats.following.p50);
            assert!((6.0..12.0).contains(&spread), "{spread}");
            assert!(stats.followers.max > 10 * stats.followers.p99, "{:?}", stats.followers);
        }
    }

    #[test]
    fn small_and_extreme_graphs_are_made_or_refused() {
        let shape = Shape::new(1, 2, 1);
        for fine in [
            Shape { largest: 0.0, ..shape },
            Shape { largest: 0.0, ..Shape::new(1, 3, 1) },
            Shape { out_sigma: 0.0, ..Shape::new(1, 100, 1_000) },
            Shape { out_sigma: 3.0, ..Shape::new(1, 1_000, 20_000) },
            Shape { reciprocity: 0.0, largest: 0.9, ..Shape::new(1, 1_000, 5_000) },
            Shape { reciprocity: 0.5, ..Shape::new(1, 1_000, 30_000) },
        ] {
            let graph = generate(&fine).unwrap();
            assert_eq!(wrong(&graph), None, "{fine:?}");
            assert_eq!(graph.edges(), fine.edges as usize, "{fine:?}");
        }
        for (bad, why) in [
            (Shape::new(1, 1, 0), "users are 1"),
            (Shape { in_exponent: 1.0, ..shape }, "exponent is 1"),
            (Shape { in_exponent: f64::NAN, ..shape }, "exponent is NaN"),
            (Shape { reciprocity: 1.0, ..shape }, "reciprocity is 1"),
            (Shape { largest: -0.1, ..shape }, "largest is -0.1"),
            (Shape { out_sigma: 9.0, ..shape }, "sigma is 9"),
            (Shape::new(1, 100, 5_000), "5000 edges are too many for 100 users"),
            (Shape::new(1, 1_000, 100), "too few for the largest account"),
        ] {
            let refused = generate(&bad).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let rows = |offsets: &[u32], others: &[u32]| Rows::new(offsets.to_vec(), others.to_vec());
        let graph = |offsets: &[u32], others: &[u32]| Graph::new(rows(offsets, others));
        assert_eq!(wrong(&graph(&[0, 2, 3, 3], &[1, 2, 0])), None);
        assert!(wrong(&graph(&[0, 1, 1], &[0])).unwrap().contains("themself"));
        assert!(wrong(&graph(&[0, 2, 2], &[1, 1])).unwrap().contains("twice"));
        let whole = graph(&[0, 1, 2, 2], &[1, 2]);
        let torn = Graph { followers: rows(&[0, 0, 0, 1], &[1]), ..whole };
        assert!(wrong(&torn).unwrap().contains("does not know"));
    }
}
