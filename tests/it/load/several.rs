//! Many runs: the highest rate, a baseline, strategies side by side.

use std::fs;

use serde_json::Value;

use super::{
    STORM, count,
    liar::{LIMIT, Liar, Lie},
    seeded,
};
use crate::support::{TestApp, chirp};

/// Pages at a fixed rate; 50 a second, which everything holds.
const PAGES: &str = "connections = 16\nmix = { timeline = 1 }\n[arrivals]\nshape = \"constant\"\n\
    process = \"fixed\"\nrate = 50\nlength = \"3s\"\n[freshness]\nstreams = 0\n";

/// Runs `chirp load` with a profile; gives the exit code, the JSON and what was told.
async fn load(app: &TestApp, profile: &str, flags: &[&str]) -> (Option<i32>, Value, String) {
    let file = app.data_dir().join("several.toml");
    fs::write(&file, profile).unwrap();
    let mut command = chirp(&["load", "--no-tui", "--json", "-", "--profile"]);
    command.arg(&file).arg("--data-dir").arg(app.data_dir()).args(flags);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), json, told)
}

#[tokio::test]
async fn no_rate_is_held_that_the_target_turns_away() {
    let app = seeded(&[]).await;
    let liar = Liar::start(app.address, Lie::TurnsAway).await;
    let target = format!("http://{}", liar.address);
    let prices = app.data_dir().join("prices.toml");
    fs::write(&prices, "source = \"a test\"\nhour = 3.6\n").unwrap();
    let prices = prices.display().to_string();
    let flags = [
        "--find-max",
        "--searches",
        "1",
        "--trial",
        "2s",
        "--hold",
        "2s",
        "--no-audit",
        "--slo",
        "errors < 1%",
        "--target",
        &target,
        "--prices",
        &prices,
    ];
    let (code, found, told) = load(&app, PAGES, &flags).await;
    assert_eq!(found["schema"], "chirp.load.find-max/1", "{told}");
    let trials = found["trials"].as_array().unwrap();
    // One that is half as high again is turned away however its requests fall into seconds.
    let above = |trial: &&Value| trial["rate"].as_f64().unwrap() > 1.5 * f64::from(LIMIT);
    let held = |trial: &&Value| trial["held"] == true;
    assert!(!trials.iter().filter(above).any(|trial| held(&trial)), "{told}");
    // The machine of a test may be late at every rate; nothing else may be wrong.
    if code == Some(0) {
        let rate = found["rate"].as_f64().unwrap();
        assert!(trials.iter().any(|trial| trial["rate"] == rate && trial["held"] == true));
        let reads = found["per_second"]["reads"].as_f64().unwrap();
        let cost = found["cost"]["per_million_reads"].as_f64().unwrap();
        assert!(
            (cost * reads / 1_000.0 - 1.0).abs() < 0.001,
            "{cost} for {reads}/s at 1 $ per 1,000 s"
        );
        assert_eq!(found["report"]["plan"]["length_s"], 2.0);
    } else {
        // Requests that were held up come together, and the second after is full.
        let spoilt = |trial: &Value| {
            trial["held"] == true
                || trial["driver"] == true
                || trial["rate"].as_f64().unwrap() > f64::from(LIMIT) / 2.0
        };
        assert!(code == Some(99) && trials.iter().all(spoilt), "{code:?}: {told}");
    }
}

#[tokio::test]
async fn runs_are_held_against_those_of_a_file_if_they_are_of_the_same_plan() {
    let app = seeded(&[]).await;
    let (code, runs, told) = load(&app, PAGES, &["--runs", "2"]).await;
    assert!(matches!(code, Some(0 | 97)), "{told}");
    assert_eq!(runs["schema"], "chirp.load.runs/1");
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
    let hash = |run: &Value| run["plan"]["seed"].clone();
    assert_ne!(hash(&runs["runs"][0]), hash(&runs["runs"][1]));
    let file = app.data_dir().join("before.json");
    fs::write(&file, runs.to_string()).unwrap();
    let file = file.display().to_string();
    let (_, compared, told) = load(&app, PAGES, &["--baseline", &file]).await;
    assert_eq!(compared["comparison"]["compared"][0]["series"], "timeline", "{told}");
    let other = PAGES.replace("rate = 50", "rate = 60");
    let (code, compared, _) = load(&app, &other, &["--baseline", &file]).await;
    assert_eq!((code, &compared["comparison"]), (Some(97), &Value::Null));
    fs::write(&file, "{}").unwrap();
    let (code, _, told) = load(&app, PAGES, &["--baseline", &file]).await;
    assert!(code == Some(2) && told.contains("neither"), "{told}");
}

#[tokio::test]
async fn the_same_load_leaves_the_same_timelines_under_each_strategy() {
    let app = TestApp::prepare(crate::support::Shape::OneProcess, &[]);
    fs::create_dir_all(app.data_dir()).unwrap();
    let profile = STORM.replace("6s", "4s");
    let (code, compared, told) = load(&app, &profile, &["--compare", "push,pull,hybrid"]).await;
    assert!(matches!(code, Some(0 | 97)), "{code:?}: {told}");
    assert_eq!(compared["equal"], true, "{told}");
    let sides = compared["sides"].as_array().unwrap();
    let of = |name: &str| sides.iter().find(|side| side["strategy"] == name).unwrap();
    for side in sides {
        let audit = &side["report"]["audit"];
        assert_eq!(audit["kinds"], serde_json::json!({}), "{told}");
        assert_eq!(audit["sample"], 1.0);
        assert!(count(&audit["deliveries"]) > 100);
        let facts = &side["report"]["environment"]["facts"];
        assert_eq!(facts["fanout.strategy"], side["strategy"]);
        assert!(side["report"]["usage"]["chirp"]["cpu_s"].as_f64().unwrap() > 0.0);
    }
    let rows = |name: &str| {
        let server = of(name)["report"]["server"].as_array().unwrap();
        let last = &server.last().unwrap()["counters"]["chirp_home_rows_total"];
        last.as_f64().unwrap_or(0.0)
    };
    assert!(rows("push") > 100.0 && rows("pull") == 0.0 && rows("hybrid") == 0.0);
}

#[tokio::test]
async fn what_is_broken_on_a_timetable_is_mended_and_marked() {
    let app = seeded(&[]).await;
    let faults = app.data_dir().join("faults.toml");
    let freeze = "[[fault]]\nat = \"1s\"\ndo = \"freeze\"\nwhat = \"chirp\"\nlasts = \"600ms\"\n";
    fs::write(&faults, freeze).unwrap();
    let file = faults.display().to_string();
    let (code, report, told) = load(&app, PAGES, &["--chaos", &file]).await;
    assert!(matches!(code, Some(0 | 97)), "{code:?}: {told}");
    let marks = report["marks"].as_array().unwrap();
    assert_eq!((marks.len(), &marks[0]["what"]), (1, &"freeze chirp".into()), "{told}");
    assert_eq!(marks[0]["failed"], Value::Null);
    assert_eq!(report["audit"]["kinds"], serde_json::json!({}));
    // Whoever came soon after its beginning waited for nearly all of it.
    assert!(count(&report["operations"][0]["corrected"]["max_us"]) > 400_000, "{told}");
    fs::write(&faults, freeze.replace("chirp", "redis")).unwrap();
    let (code, _, told) = load(&app, PAGES, &["--chaos", &file]).await;
    assert!(code == Some(2) && told.contains("there is no part `redis`"), "{told}");
}

#[tokio::test]
async fn what_each_operation_costs_is_written_down() {
    let app = seeded(&[]).await;
    let file = app.data_dir().join("costs.json");
    let profile = PAGES.replace("3s", "2s");
    let path = app.data_dir().join("costs.toml");
    fs::write(&path, profile).unwrap();
    let mut command = chirp(&["load", "--quiet", "--profile"]);
    command.arg(&path).arg("--data-dir").arg(app.data_dir()).arg("--calibrate").arg(&file);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(matches!(output.status.code(), Some(0 | 97)), "{output:?}");
    let costs: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(costs["schema"], "chirp.calibration/1");
    let all = costs["operations"].as_array().unwrap();
    let names: Vec<&str> = all.iter().map(|of| of["operation"].as_str().unwrap()).collect();
    assert_eq!(names, ["timeline", "author", "profile", "post", "follow", "unfollow", "block"]);
    for of in all {
        let quantiles = of["service_us"].as_array().unwrap();
        assert_eq!((count(&of["errors"]), quantiles.len()), (0, 200), "{of}");
        assert!(quantiles.is_sorted_by_key(count), "{of}");
        assert!(of["cpu_s"]["chirp"].as_f64().unwrap() > 0.0, "{of}");
    }
    let of = |name: &str| all.iter().find(|of| of["operation"] == name).unwrap();
    assert!(of("timeline")["answer_bytes"].as_f64().unwrap() > 1_000.0);
    assert!(of("post")["request_bytes"].as_f64().unwrap() > 50.0);
    assert!(of("post")["followers"].as_f64().unwrap() > 1.0);
}
