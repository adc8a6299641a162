//! The page, as two people with a browser each meet it.

use serde_json::json;

use crate::support::{GIF, Shape, TestApp, browser::Browser};

const PASSWORD: &str = "correct horse";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const CONTROL: &str = "\u{e009}";
const MARKUP: &str =
    "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>";

/// Opens the page and signs up on it.
async fn signs_up(app: &TestApp, handle: &str, width: u32) -> Browser {
    let browser = Browser::open(width).await;
    browser.page.goto(&format!("http://{}/", app.address)).await.unwrap();
    browser.shows("#door").await;
    browser.types("#handle", handle).await;
    browser.types("#password", PASSWORD).await;
    browser.clicks("#signup").await;
    browser.shows("#compose").await;
    browser
        .until("the stream is open", "document.getElementById('connection').textContent == 'live'")
        .await;
    browser
}

async fn tweets(browser: &Browser, text: &str) {
    browser.types("#text", text).await;
    browser.clicks("#post").await;
    browser.until("the text was taken", "document.getElementById('text').value == ''").await;
}

/// Nothing was run, refused or thrown that should not be.
async fn nothing_ran(browser: &Browser, handle: &str) {
    assert_eq!(browser.page.title().await.unwrap(), format!("chirp · @{handle}"));
    let inside = "return document.querySelectorAll('#timeline img, #timeline script').length;";
    assert_eq!(browser.script(inside).await, json!(0));
    let trouble = browser.script("return window.trouble;").await;
    assert_eq!(trouble, json!([]), "errors and breaches of the policy");
}

/// Collects what goes wrong from now on.
async fn watch(browser: &Browser) {
    let listen = "window.trouble = []; window.marked = true;
        addEventListener('error', e => trouble.push(String(e.message)));
        addEventListener('unhandledrejection', e => trouble.push(String(e.reason)));
        addEventListener('securitypolicyviolation', e => trouble.push(e.violatedDirective));
        return true;";
    browser.script(listen).await;
}

async fn a_tweet_arrives(shape: Shape) {
    let app = TestApp::start(shape).await;
    let (ada, bob) = tokio::join!(signs_up(&app, "ada", 1_000), signs_up(&app, "bob", 1_000));
    watch(&ada).await;
    watch(&bob).await;
    tweets(&ada, "before").await;
    bob.types("#whom", "@Ada").await;
    bob.clicks("#follow").await;
    bob.until(
        "it is told",
        "/follow @ada/.test(document.getElementById('people-note').textContent)",
    )
    .await;
    bob.reads(&["before"]).await;
    tweets(&ada, "hello, bob").await;
    bob.reads(&["hello, bob", "before"]).await;
    ada.reads(&["hello, bob", "before"]).await;
    tweets(&ada, MARKUP).await;
    bob.reads(&[MARKUP, "hello, bob", "before"]).await;
    nothing_ran(&bob, "bob").await;
    nothing_ran(&ada, "ada").await;
    // Even markup that came to be part of the page would run nothing.
    let inject = "const s = document.createElement('script'); s.textContent = 'window.ran = 1';
        document.body.append(s);
        document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">');
        return true;";
    bob.script(inject).await;
    bob.until("the policy refuses both", "window.trouble.length >= 2 && !window.ran").await;
    // Only one's own can be deleted, and what is deleted leaves both pages.
    let deletable =
        "return [...document.querySelectorAll('.delete')].filter(b => !b.hidden).length;";
    assert_eq!((ada.script(deletable).await, bob.script(deletable).await), (json!(3), json!(0)));
    ada.clicks("#timeline li:nth-child(2) .delete").await;
    ada.reads(&[MARKUP, "before"]).await;
    bob.reads(&[MARKUP, "before"]).await;
    bob.types("#whom", "ada").await;
    bob.clicks("#unfollow").await;
    bob.reads(&[]).await;
    bob.shows("#empty").await;
    // None of it by loading the page again.
    assert_eq!(bob.script("return window.marked;").await, json!(true));
    // Loading it again keeps the session; logging out ends it.
    bob.page.refresh().await.unwrap();
    bob.shows("#compose").await;
    bob.clicks("#logout").await;
    bob.shows("#door").await;
    assert_eq!(bob.script("return sessionStorage.length;").await, json!(0));
    bob.types("#handle", "bob").await;
    bob.types("#password", "wrong password").await;
    bob.clicks("#login").await;
    bob.shows("#notice").await;
    bob.types("#password", PASSWORD).await;
    bob.clicks("#login").await;
    bob.shows("#compose").await;
    ada.close().await;
    bob.close().await;
}

#[tokio::test]
async fn one_process_a_tweet_arrives_on_the_page_of_a_follower_by_itself() {
    a_tweet_arrives(Shape::OneProcess).await;
}

#[tokio::test]
async fn one_process_per_role_a_tweet_arrives_on_the_page_of_a_follower_by_itself() {
    a_tweet_arrives(Shape::PerRole).await;
}

#[tokio::test]
async fn a_page_that_was_asked_for_before_the_stream_told_undoes_nothing() {
    let app = TestApp::start(Shape::OneProcess).await;
    app.signs_up("ada").await.tweets("before").await;
    let bob = signs_up(&app, "bob", 1_000).await;
    // Every page comes as it was when it was asked for, but late: the stream is faster.
    let late = "const ask = window.fetch;
        window.fetch = async (what, how) => {
            const answer = await ask(what, how);
            if (String(what).startsWith('timeline?')) await new Promise(r => setTimeout(r, 1500));
            return answer;
        };
        return true;";
    bob.script(late).await;
    bob.types("#whom", "ada").await;
    bob.clicks("#follow").await;
    bob.until(
        "the late page is there",
        "/follow @ada/.test(document.getElementById('people-note').textContent)
            && !document.getElementById('follow').disabled",
    )
    .await;
    bob.reads(&["before"]).await;
    bob.close().await;
}

#[tokio::test]
async fn a_text_that_is_sent_again_after_its_answer_was_lost_is_posted_once() {
    let app = TestApp::start(Shape::OneProcess).await;
    let ada = signs_up(&app, "ada", 1_000).await;
    // The server gets what is posted, and the page no answer: neither at once nor the second time.
    let deaf = "const ask = window.fetch;
        window.lost = 0;
        window.fetch = async (what, how) => {
            const answer = await ask(what, how);
            if (what !== 'tweets' || ++window.lost > 2) return answer;
            throw new TypeError('the answer was lost');
        };
        return true;";
    ada.script(deaf).await;
    ada.types("#text", "only once").await;
    ada.clicks("#post").await;
    ada.until(
        "both answers are lost",
        "window.lost == 2 && !document.getElementById('post').disabled",
    )
    .await;
    ada.shows("#notice").await;
    ada.clicks("#post").await;
    ada.until("the text was taken", "document.getElementById('text').value == ''").await;
    ada.reads(&["only once"]).await;
    // The same text on purpose, after an answer, is another tweet.
    tweets(&ada, "only once").await;
    ada.reads(&["only once", "only once"]).await;
    ada.close().await;
}

#[tokio::test]
async fn the_keyboard_is_enough_and_the_focus_is_never_lost() {
    let app = TestApp::start(Shape::OneProcess).await;
    app.signs_up("bob").await.tweets("by bob").await;
    let ada = Browser::open(1_000).await;
    ada.page.goto(&format!("http://{}/", app.address)).await.unwrap();
    ada.shows("#door").await;
    let focus = async || {
        ada.script("return document.activeElement.id || document.activeElement.className;").await
    };
    ada.clicks("#handle").await;
    ada.keys(&format!("ada{TAB}{TAB}{PASSWORD}{ENTER}")).await;
    ada.shows("#compose").await;
    assert_eq!(focus().await, json!("text"), "one can type at once");
    ada.keys(&format!("by keys{CONTROL}{ENTER}")).await;
    ada.reads(&["by keys"]).await;
    assert_eq!(focus().await, json!("text"));
    // The button of an empty text cannot be reached; the next stops are pictures, and whom to follow.
    ada.keys(TAB).await;
    assert_eq!(focus().await, json!("attach"));
    ada.keys(TAB).await;
    assert_eq!(focus().await, json!("whom"));
    ada.keys(&format!("bob{ENTER}")).await;
    ada.reads(&["by keys", "by bob"]).await;
    // From there to the one button that deletes, past the two of the form.
    ada.until("the form is free", "!document.getElementById('follow').disabled").await;
    for _ in 0..10 {
        if focus().await == json!("quiet delete") {
            break;
        }
        ada.keys(TAB).await;
    }
    let label = "return document.activeElement.getAttribute('aria-label');";
    assert_eq!(ada.script(label).await, json!("Delete your tweet: by keys"));
    let ring = "return getComputedStyle(document.activeElement).outlineStyle;";
    assert_eq!(ada.script(ring).await, json!("solid"), "the focus can be seen");
    ada.keys(ENTER).await;
    ada.reads(&["by bob"]).await;
    assert_eq!(focus().await, json!("text"), "the focus is not lost with the button");
    ada.close().await;
}

#[tokio::test]
async fn nothing_is_wider_than_a_narrow_window() {
    let app = TestApp::start(Shape::OneProcess).await;
    let long = app.signs_up("abcdefghijklmno").await;
    long.tweets(&"w".repeat(280)).await;
    long.tweets(&format!("{MARKUP} {}", "https://example.org/".repeat(8))).await;
    let ada = Browser::open(320).await;
    ada.page.goto(&format!("http://{}/", app.address)).await.unwrap();
    ada.shows("#door").await;
    let fits = "return [document.documentElement.scrollWidth, innerWidth];";
    assert_eq!(ada.script(fits).await, json!([320, 320]), "the door");
    ada.types("#handle", "ada").await;
    ada.types("#password", PASSWORD).await;
    ada.clicks("#signup").await;
    ada.shows("#compose").await;
    ada.types("#whom", "abcdefghijklmno").await;
    ada.clicks("#follow").await;
    ada.until("both are there", "document.querySelectorAll('#timeline li').length == 2").await;
    assert_eq!(ada.script(fits).await, json!([320, 320]), "home");
    let outside = "return [...document.querySelectorAll('body *')].filter(e =>
        e.offsetParent && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.id || e.className);";
    let outside = ada.script(outside).await;
    assert_eq!(outside, json!([]));
    ada.close().await;
}

#[tokio::test]
async fn where_streams_are_refused_the_page_polls() {
    // No place for a stream: the front door answers 503.
    let app = TestApp::start_with(Shape::OneProcess, &[("CHIRP_HTTP_STREAMS_MAX", "1")]).await;
    let first = app.signs_up("first").await;
    let held = first.streams().await;
    let more = first.tries("GET", "/timeline/stream", &[], None).await;
    assert_eq!(more.unwrap().status, 503, "the only place is taken");
    let writer = app.signs_up("writer").await;
    let ada = Browser::open(1_000).await;
    ada.page.goto(&format!("http://{}/", app.address)).await.unwrap();
    ada.shows("#door").await;
    ada.types("#handle", "ada").await;
    ada.types("#password", PASSWORD).await;
    ada.clicks("#signup").await;
    ada.until("it polls", "document.getElementById('connection').textContent == 'polling'").await;
    ada.types("#whom", "writer").await;
    ada.clicks("#follow").await;
    ada.until("it is told", "document.getElementById('people-note').textContent").await;
    let tweet = writer.tweets("found by asking").await.id;
    ada.reads(&["found by asking"]).await;
    writer.deletes(tweet).await;
    ada.reads(&[]).await;
    drop(held);
    ada.close().await;
}

#[tokio::test]
async fn a_picture_is_chosen_sent_and_shown_to_a_follower() {
    let app = TestApp::start(Shape::OneProcess).await;
    let (ada, bob) = tokio::join!(signs_up(&app, "ada", 1_000), signs_up(&app, "bob", 1_000));
    watch(&ada).await;
    watch(&bob).await;
    bob.types("#whom", "ada").await;
    bob.clicks("#follow").await;
    bob.until("it is told", "document.getElementById('people-note').textContent").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let choose = async |path: String| {
        let input = ada.page.find(fantoccini::Locator::Css("#picture")).await.unwrap();
        input.send_keys(&path).await.unwrap();
    };
    // What cannot be taken is told before anything is sent.
    choose(file("page.html", b"<script>")).await;
    ada.until("it is no picture", "/no JPEG/.test(document.getElementById('notice').textContent)")
        .await;
    choose(file("large.gif", &[GIF, &vec![0; 5 << 20]].concat())).await;
    ada.until("it is too large", "/too large/.test(document.getElementById('notice').textContent)")
        .await;
    choose(file("wrong.gif", GIF)).await;
    ada.until("it is shown", "document.querySelector('#pictures img').naturalWidth == 1").await;
    ada.clicks("#pictures .remove").await;
    ada.until("it is removed", "!document.querySelector('#pictures li')").await;
    choose(file("right.gif", GIF)).await;
    tweets(&ada, "look").await;
    for browser in [&ada, &bob] {
        browser.reads(&["look"]).await;
        browser
            .until(
                "the picture is there",
                "(i => i && i.complete && i.naturalWidth == 1 && i.loading == 'lazy'
                    && i.getAttribute('width') == '1' && /Picture by @ada/.test(i.alt))(
                    document.querySelector('#timeline .media img'))",
            )
            .await;
        let trouble = browser.script("return window.trouble;").await;
        assert_eq!(trouble, json!([]), "errors and breaches of the policy");
    }
    ada.until("the composer is empty", "!document.querySelector('#pictures li')").await;
    // As a page of its own a picture is in a sandbox.
    let href = bob.script("return document.querySelector('#timeline .media a').href;").await;
    bob.page.goto(href.as_str().unwrap()).await.unwrap();
    assert_eq!(bob.script("return window.origin;").await, json!("null"));
    ada.close().await;
    bob.close().await;
}
