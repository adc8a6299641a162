//! What a graph is like: its size, its distributions, its largest account.

/// The most users: rows and alias tables number them by 32 bits, and a table of 2^27 takes a gigabyte.
const USERS_MAX: u32 = 1 << 27;

/// What a graph is like.
///
/// The defaults are those of Twitter as measured: exponent 2.276 of the followers' distribution, 35
/// followees a user and 22.1 % of edges returned (Kwak et al., "What is Twitter, a social network or a
/// news media?", WWW 2010); Myers et al. (WWW 2014) found 42 % returned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Everything random follows from it.
    pub seed: u64,
    /// How many users, 2 to 2^27.
    pub users: u32,
    /// How many edges, exactly; fewer only where so many are by chance returned already that the rest
    /// does not do for `reciprocity`.
    pub edges: u32,
    /// How wide the lognormal distribution of followees is: the standard deviation of the logarithm,
    /// 0 to 3. Default 1.0: the user at the 99th percentile follows ten times as many as the median.
    pub out_sigma: f64,
    /// The share of users with k followers falls as k to minus this power, 1.5 to 4. Default 2.276.
    pub in_exponent: f64,
    /// The share of edges that are returned, 0 to 0.9. Default 0.221; a few more are by chance.
    pub reciprocity: f64,
    /// The share of users who follow user 0, the largest account, 0 to 0.9. Default 0.3.
    pub largest: f64,
}

/// A named size: its name, users and edges. `demo` is as large as the Facebook network of Reed
/// College that `DeathStarBench` uses (socfb-Reed98).
pub const PRESETS: [(&str, u32, u32); 4] = [
    ("demo", 962, 18_812),
    ("10k", 10_000, 350_000),
    ("100k", 100_000, 5_000_000),
    ("1m", 1_000_000, 35_000_000),
];

/// A shape that no graph can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Shape {
    /// So many users and edges, else as Twitter was.
    #[must_use]
    pub const fn new(seed: u64, users: u32, edges: u32) -> Self {
        let (in_exponent, reciprocity) = (2.276, 0.221);
        Self { seed, users, edges, out_sigma: 1.0, in_exponent, reciprocity, largest: 0.3 }
    }

    /// The shape that is called `name`.
    #[must_use]
    pub fn preset(name: &str, seed: u64) -> Option<Self> {
        let (_, users, edges) = PRESETS.into_iter().find(|(known, ..)| *known == name)?;
        Some(Self::new(seed, users, edges))
    }

    /// The most that one user follows of their own accord: where many of few are wanted, drawing
    /// without repetition takes for ever.
    pub(super) const fn out_max(&self) -> u32 {
        let third = self.users / 3;
        if third == 0 { 1 } else { third }
    }

    /// Edges that others return.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of 32 bits"
    )]
    pub(super) fn returned(&self) -> u32 {
        (f64::from(self.edges) * self.reciprocity / 2.0) as u32
    }

    /// Users who follow the largest account.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of 32 bits"
    )]
    pub(super) fn of_largest(&self) -> u32 {
        (f64::from(self.users - 1) * self.largest) as u32
    }

    /// Checks it.
    ///
    /// # Errors
    /// The first value that is out of range, or does not fit the others.
    pub fn validate(&self) -> Result<(), Invalid> {
        let refuse = |text: String| Err(Invalid(text));
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Invalid(format!("{name} is {value}, allowed are {low} to {high}")))
        };
        if !(2..=USERS_MAX).contains(&self.users) {
            return refuse(format!("users are {}, allowed are 2 to {USERS_MAX}", self.users));
        }
        within("sigma", self.out_sigma, 0.0, 3.0)?;
        within("exponent", self.in_exponent, 1.5, 4.0)?;
        within("reciprocity", self.reciprocity, 0.0, 0.9)?;
        within("largest", self.largest, 0.0, 0.9)?;
        let own = self.edges - self.returned();
        // Half of what could be: near the bound all users would be alike.
        let room = u64::from(self.users) * u64::from(self.out_max()) / 2;
        if u64::from(own) > room {
            let text = format!("{} edges are too many for {} users", self.edges, self.users);
            return refuse(format!("{text}, at most {room} that are not returned"));
        }
        if self.of_largest() > own {
            return refuse(format!("{} edges are too few for the largest account", self.edges));
        }
        Ok(())
    }
}
