//! A headless Chromium with a fresh profile, driven through chromedriver.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, Locator, wd::Capabilities};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::eventually;

/// Said when the browser is missing.
const MISSING: &str = "the tests of the page need chromium and chromedriver: run \
    `./scripts/test --yes` as root, or install the packages chromium and chromium-driver";
/// Names under which the browser is installed.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// One person's browser.
pub struct Browser {
    pub page: Client,
    driver: Child,
    _profile: TempDir,
}

/// How often chromedriver is started until it has a port: it takes a free one of `::1`, and ends if
/// the same of `127.0.0.1` is in use, as a few in a hundred are beside servers.
const STARTS_MAX: usize = 20;

/// A driver, and where it listens.
fn starts() -> (Child, String) {
    let mut said = Vec::new();
    for _ in 0..STARTS_MAX {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            // A group of its own, so that the browser can be ended with its driver.
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}: {MISSING}"));
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let port = line.split_once("started successfully on port ");
            let port = port.map(|(_, port)| port.trim_end_matches('.').to_owned());
            said.push(line);
            port
        });
        if let Some(port) = port {
            // Whatever it says later is read too, so that it never waits for a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return (driver, port);
        }
        driver.wait().unwrap();
        let why = said.last().map(String::as_str).unwrap_or_default();
        assert!(why.contains("port not available"), "chromedriver ended: {said:#?}");
    }
    panic!("chromedriver finds no port: {said:#?}")
}

impl Browser {
    /// Opens a browser with a window of this width, on an empty page.
    pub async fn open(width: u32) -> Self {
        let (driver, port) = tokio::task::spawn_blocking(starts).await.unwrap();
        let profile = tempfile::tempdir().unwrap();
        let page = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(&profile, width))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap_or_else(|error| panic!("{error}: {MISSING}"));
        Self { page, driver, _profile: profile }
    }

    /// Ends the browser.
    pub async fn close(mut self) {
        self.page.clone().close().await.unwrap();
        drop(self.driver.kill());
        drop(self.driver.wait());
    }

    /// What a script gives; its body ends with `return`.
    pub async fn script(&self, script: &str) -> Value {
        self.page.execute(script, vec![]).await.unwrap()
    }

    /// Types into a field, as a person does.
    pub async fn types(&self, field: &str, text: &str) {
        let field = self.page.find(Locator::Css(field)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    pub async fn clicks(&self, control: &str) {
        self.page.find(Locator::Css(control)).await.unwrap().click().await.unwrap();
    }

    /// Sends keys to whatever has the focus.
    pub async fn keys(&self, keys: &str) {
        self.page.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// Waits until a script gives `true`.
    pub async fn until(&self, what: &str, script: &str) {
        let script = format!("return Boolean({script});");
        eventually(what, || async { (self.script(&script).await == json!(true)).then_some(()) })
            .await;
    }

    /// Waits until something is there and can be seen.
    pub async fn shows(&self, css: &str) {
        let script =
            format!("(e => e && e.offsetParent !== null)(document.querySelector({css:?}))");
        self.until(&format!("{css} is shown"), &script).await;
    }

    /// The texts of the tweets on the page, from the top.
    pub async fn timeline(&self) -> Vec<String> {
        let script =
            "return [...document.querySelectorAll('#timeline .text')].map(e => e.textContent);";
        serde_json::from_value(self.script(script).await).unwrap()
    }

    /// Waits until the timeline is exactly this.
    pub async fn reads(&self, wanted: &[&str]) {
        let deadline = tokio::time::Instant::now() + super::patience();
        loop {
            let found = self.timeline().await;
            if found == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:?} is not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A test that failed did not close its browser.
        let group = rustix::process::Pid::from_child(&self.driver);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        drop(self.driver.wait());
    }
}

fn capabilities(profile: &TempDir, width: u32) -> Capabilities {
    let binary = NAMES.iter().find_map(|name| {
        let paths = std::env::var_os("PATH")?;
        std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.exists())
    });
    let binary = binary.unwrap_or_else(|| panic!("{MISSING}"));
    let args = [
        "--headless".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-quic".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        format!("--user-data-dir={}", profile.path().display()),
        format!("--window-size={width},800"),
    ];
    let mut options = json!({ "binary": binary, "args": args });
    // A window is never narrower than 500 pixels; a device may be.
    if width < 500 {
        let device = json!({ "width": width, "height": 640, "pixelRatio": 1.0 });
        options["mobileEmulation"] = json!({ "deviceMetrics": device });
    }
    let logs = json!({ "browser": "ALL" });
    [("goog:chromeOptions".to_owned(), options), ("goog:loggingPrefs".to_owned(), logs)]
        .into_iter()
        .collect()
}
