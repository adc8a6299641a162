//! The tables, as numbered steps that only go forward.
//!
//! A step that was released is never changed. What it does may be done twice (`if not exists`), because
//! Cassandra has no transaction over tables: a step that was cut off is taken again, and of processes
//! that take it at once each may be the one. While one release replaces another both run, so a step
//! should leave the release before it working; one that cannot says so ([`Step::oldest`]), and releases
//! that do not know it refuse the tables from then on.
//!
//! Where others make the tables, as `CloudFormation` does in Amazon Keyspaces, [`check`] compares them
//! with the steps.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use scylla::{
    client::session::Session,
    policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
    response::query_result::QueryRowsResult,
    statement::unprepared::Statement,
};
use sha2::{Digest as _, Sha256};

use super::{
    super::endpoint::Endpoint, cql::connect, fault::brief, open::OpenError, statements::in_keyspace,
};
use crate::{config, rt::Rt};

/// The longest that all steps may take; far above what they need on a cluster that works.
const MIGRATE_MAX: Duration = Duration::from_mins(1);
/// Where the steps that were taken are noted. Their number is a hundred in many years.
const VERSIONS: &str = "
    create table if not exists ks.schema_versions (
        store text,
        version int,
        name text,
        digest text,
        oldest int,
        primary key ((store), version)
    )";
const TAKEN: &str = "
    select version, digest, oldest from ks.schema_versions where store = 'timelines'";
const TAKE: &str = "
    insert into ks.schema_versions (store, version, name, digest, oldest)
    values ('timelines', ?, ?, ?, ?)";
const COLUMNS: &str = "
    select table_name, column_name, type from system_schema.columns where keyspace_name = ?";

/// One step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its number, from 1.
    pub number: i32,
    /// What it adds.
    pub name: &'static str,
    /// Its statements, with semicolons between.
    pub cql: &'static str,
    /// The oldest number that a program must know to work over the tables after it: 0 while every
    /// release does.
    pub oldest: i32,
}

/// All steps, in order.
pub const STEPS: &[Step] = &[
    Step {
        number: 1,
        name: "timelines",
        cql: include_str!("../../../migrations/cassandra/0001_timelines.cql"),
        oldest: 0,
    },
    Step {
        number: 2,
        name: "homes",
        cql: include_str!("../../../migrations/cassandra/0002_homes.cql"),
        oldest: 0,
    },
];

/// A column: its table, its name and its type.
pub type Column = (String, String, String);

impl Step {
    fn digest(&self) -> String {
        Sha256::digest(self.cql).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Its statements, without comments.
    pub(super) fn statements(&self) -> Vec<String> {
        let lines = self.cql.lines().filter(|line| !line.trim_start().starts_with("--"));
        let text = lines.collect::<Vec<_>>().join("\n");
        text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }

    /// The columns that it adds. It has two kinds of statements, each written as in the first step:
    /// `create table`, a line per column, and `alter table NAME add if not exists COLUMN TYPE`.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        for statement in self.statements() {
            let words: Vec<&str> = statement.split_whitespace().collect();
            match words[..] {
                ["create", "table", "if", "not", "exists", table, ..] => {
                    let lines = statement.lines().skip(1).map(str::trim);
                    for line in lines.take_while(|line| !line.starts_with("primary key")) {
                        let mut words = line.trim_end_matches(',').split_whitespace();
                        let (name, kind) = (words.next(), words.next());
                        columns.extend(name.zip(kind).map(|column| own(table, column)));
                    }
                }
                ["alter", "table", table, "add", "if", "not", "exists", name, kind] => {
                    columns.push(own(table, (name, kind)));
                }
                _ => {}
            }
        }
        columns
    }
}

fn own(table: &str, (name, kind): (&str, &str)) -> Column {
    let table = table.strip_prefix("ks.").unwrap_or(table);
    (table.to_owned(), name.to_owned(), kind.to_owned())
}

/// Makes the keyspace and its tables, as far as they are missing.
///
/// # Errors
/// [`OpenError`]; what was made stays, and the next call goes on from there.
pub async fn migrate(rt: &Rt, endpoint: &Endpoint<config::Cassandra>) -> Result<(), OpenError> {
    migrate_to(rt, endpoint, STEPS).await
}

/// [`migrate`] with the steps of another release.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_to(
    rt: &Rt,
    endpoint: &Endpoint<config::Cassandra>,
    steps: &[Step],
) -> Result<(), OpenError> {
    let config = &endpoint.config;
    let late = || {
        let why = format!("making them took more than {} s", MIGRATE_MAX.as_secs());
        OpenError::schema(config, why)
    };
    rt.timeout(MIGRATE_MAX, Box::pin(take_all(rt, endpoint, steps)))
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// The steps that the tables lack, each as number and name; empty if they are as this program needs
/// them. Changes nothing.
///
/// # Errors
/// [`OpenError`] if they cannot be read, or are made by a release that this one cannot work beside.
pub async fn check(
    rt: &Rt,
    endpoint: &Endpoint<config::Cassandra>,
) -> Result<Vec<String>, OpenError> {
    let config = &endpoint.config;
    let work = async {
        let session = connect(rt, endpoint).await?;
        missing(&session, config).await
    };
    let late = |_| {
        let why = format!("reading them took more than {} s", MIGRATE_MAX.as_secs());
        Err(OpenError::schema(config, why))
    };
    rt.timeout(MIGRATE_MAX, Box::pin(work)).await.unwrap_or_else(late)
}

/// As [`check`], over a session that is there.
pub(super) async fn missing(
    session: &Session,
    config: &config::Cassandra,
) -> Result<Vec<String>, OpenError> {
    let schema = Schema { session, config };
    let found = schema.columns().await?;
    if found.iter().any(|(table, ..)| table == "schema_versions") {
        schema.refuse_others(&schema.taken().await?, STEPS)?;
    }
    let lacks = |step: &&Step| !step.columns().iter().all(|column| found.contains(column));
    Ok(STEPS.iter().filter(lacks).map(|s| format!("{:04} {}", s.number, s.name)).collect())
}

async fn take_all(
    rt: &Rt,
    endpoint: &Endpoint<config::Cassandra>,
    steps: &[Step],
) -> Result<(), OpenError> {
    let (config, session) = (&endpoint.config, connect(rt, endpoint).await?);
    let schema = Schema { session: &session, config };
    // Other strategies count replicas without regard to data centres, and `LOCAL_QUORUM` is of one.
    let replicas = config.replicas;
    let keyspace = format!(
        "create keyspace if not exists {} with replication =
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}",
        config.keyspace
    );
    schema.change("the keyspace", &keyspace).await?;
    schema.change("schema_versions", VERSIONS).await?;
    let taken = schema.taken().await?;
    schema.refuse_others(&taken, steps)?;
    for step in steps.iter().filter(|step| taken.iter().all(|row| row.0 != step.number)) {
        for statement in step.statements() {
            schema.change(step.name, &in_tables(&statement)).await?;
        }
        schema.note(step).await?;
    }
    Ok(())
}

/// Names the keyspace of the one table of a statement of a step.
pub(super) fn in_tables(statement: &str) -> String {
    for head in ["create table if not exists ", "alter table "] {
        if let Some(rest) = statement.strip_prefix(head) {
            return format!("{head}ks.{rest}");
        }
    }
    statement.to_owned()
}

/// A step that was taken: its number, its digest, and the oldest number that a program must know.
type Taken = (i32, String, i32);

/// The tables, over a session.
struct Schema<'a> {
    session: &'a Session,
    config: &'a config::Cassandra,
}

impl Schema<'_> {
    fn fail(&self, what: &str, why: &impl std::fmt::Display) -> OpenError {
        OpenError::schema(self.config, format!("{what}: {}", brief(why)))
    }

    /// Changes tables, and waits until all nodes have it. Changes of all processes go over one node,
    /// which makes them one after another; two nodes at once would make a table twice.
    async fn change(&self, what: &str, cql: &str) -> Result<(), OpenError> {
        let mut statement = Statement::new(in_keyspace(cql, &self.config.keyspace));
        let cluster = self.session.get_cluster_state();
        let first = cluster.get_nodes_info().iter().min_by_key(|node| node.host_id);
        statement.set_load_balancing_policy(first.map(|node| {
            SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None)
        }));
        let changed = self.session.query_unpaged(statement, ()).await;
        changed.map(drop).map_err(|error| self.fail(what, &error))
    }

    async fn rows(
        &self,
        cql: &str,
        values: impl scylla::serialize::row::SerializeRow,
    ) -> Result<QueryRowsResult, OpenError> {
        let text = in_keyspace(cql, &self.config.keyspace);
        let answer = self.session.query_unpaged(text, values).await;
        let answer = answer.map_err(|error| self.fail("reading", &error))?;
        answer.into_rows_result().map_err(|error| self.fail("reading", &error))
    }

    async fn columns(&self) -> Result<BTreeSet<Column>, OpenError> {
        let found = self.rows(COLUMNS, (&self.config.keyspace,)).await?;
        let rows = found.rows::<Column>().map_err(|error| self.fail("columns", &error))?;
        rows.collect::<Result<_, _>>().map_err(|error| self.fail("columns", &error))
    }

    async fn taken(&self) -> Result<Vec<Taken>, OpenError> {
        let found = self.rows(TAKEN, ()).await?;
        let rows = found.rows::<Taken>().map_err(|error| self.fail("schema_versions", &error))?;
        rows.collect::<Result<_, _>>().map_err(|error| self.fail("schema_versions", &error))
    }

    async fn note(&self, step: &Step) -> Result<(), OpenError> {
        let text = in_keyspace(TAKE, &self.config.keyspace);
        let values = (step.number, step.name, step.digest(), step.oldest);
        let noted = self.session.query_unpaged(text, values).await;
        noted.map(drop).map_err(|error| self.fail(step.name, &error))
    }

    /// Refuses steps that were changed after they were taken, and those of a release that this one
    /// cannot work beside.
    fn refuse_others(&self, taken: &[Taken], steps: &[Step]) -> Result<(), OpenError> {
        let newest = steps.last().map_or(0, |step| step.number);
        for (number, digest, oldest) in taken {
            if *oldest > newest {
                let why = format!(
                    "step {number} was taken by a newer release, beside which this one, which knows \
                     {newest} steps, cannot work"
                );
                return Err(OpenError::foreign(self.config, why));
            }
            let changed = |step: &&Step| step.number == *number && step.digest() != *digest;
            if let Some(step) = steps.iter().find(changed) {
                let why = format!("step {number}, {}, was changed after it was taken", step.name);
                return Err(OpenError::foreign(self.config, why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_from_one_and_say_what_they_add() {
        for (step, number) in STEPS.iter().zip(1..) {
            assert_eq!(step.number, number);
            assert!(!step.columns().is_empty() && step.oldest <= number, "{}", step.name);
        }
    }

    #[test]
    fn the_columns_of_a_step_are_read_out_of_its_text() {
        let cql = "
            -- a comment; with a semicolon
            create table if not exists a (
                b bigint,
                c boolean static,
                primary key ((b))
            ) with clustering order by (c desc);
            alter table d add if not exists e text;";
        let step = Step { number: 1, name: "n", cql, oldest: 0 };
        let column = |table, name, kind| own(table, (name, kind));
        let expected =
            [column("a", "b", "bigint"), column("a", "c", "boolean"), column("d", "e", "text")];
        assert_eq!(step.columns(), expected);
        assert_eq!(in_tables(&step.statements()[1]), "alter table ks.d add if not exists e text");
    }
}
