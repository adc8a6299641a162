# Recipes of chirp. `just` lists them; each is one command that can also be typed.

target := env("CARGO_TARGET_DIR", "target")

# List the recipes
default:
    @just --list --unsorted

# Run the whole stack (page on http://127.0.0.1:8080)
up *args:
    cargo run -- up {{ args }}

# Format, lint, and the rules of the house: before every commit
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo test --locked --quiet --test architecture

# Every test, with the seconds of each phase
test *args:
    ./scripts/test {{ args }}

# Scenarios over HTTP; `just it cursors` runs those with the word in their name
it filter="":
    cargo test --locked --test it {{ filter }}

# Faults on the virtual clock; `just sim 1000`
sim seeds="300":
    cargo run --locked -- sim faults --seeds {{ seeds }}

# Kill -9 under load; `just crash 1000`
crash kills="25":
    CHIRP_TEST_KILLS={{ kills }} cargo test --locked --test crash -- --nocapture

# Adapters on real servers in containers (starts Docker); `just backends faults`
backends filter="":
    ./scripts/docker-start
    ./infra/local-images/build --pull
    cargo test --locked --test backends -- {{ filter }}

# One account with so many followers on a real Cassandra
followers count="1000000":
    ./scripts/docker-start
    ./infra/local-images/build --pull
    CHIRP_TEST_FOLLOWERS={{ count }} CHIRP_TEST_SCENARIO_S=3600 cargo test --locked --test backends -- a_big_account

# The scenarios of `just it` over real servers in containers; `just it-servers cursors`
it-servers filter="one_process":
    ./scripts/docker-start
    ./infra/local-images/build --pull
    cargo test --locked --test backends -- around cargo test --locked --test it {{ filter }}

# Every fault of real servers and processes under load; `just matrix frozen redis`
matrix *rows="all":
    ./scripts/docker-start
    ./infra/local-images/build --pull
    cargo test --locked --test matrix -- {{ rows }}

# Throughput beside a reference, in one run (docs/bench.md); `just bench --backends containers --only read`
bench *args:
    cargo bench --locked --bench feed -- {{ args }}

# The driver of `chirp load` against a bare server, beside `oha` and `wrk` (docs/bench.md)
bench-driver *args:
    cargo bench --locked --bench driver -- {{ args }}

# Licences, sources and banned crates
deny:
    cargo deny --offline check bans licenses sources

# Reference of the source
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# What CI runs
ci:
    ./.ci/run
