//! Roles as pods: each process told by its environment alone, over servers.

mod pod;
mod rolling;
mod waiting;

use crate::support::run::{Alone, Scenario, scenarios};

pub const SCENARIOS: &[Scenario<Alone>] = scenarios![
    waiting::a_role_lives_before_its_database_is_there_and_answers_once_it_is,
    waiting::a_bucket_whose_server_comes_later_is_made_then,
    waiting::a_role_that_is_told_to_stop_while_it_waits_ends_at_once,
    waiting::a_schema_that_is_behind_is_told_and_refused_and_migrated_once,
    waiting::a_role_waits_for_the_file_of_its_password,
    waiting::a_doctor_tells_which_servers_a_start_would_miss,
    rolling::a_rolling_restart_under_load_drops_nothing,
];
