// The page of chirp: sign up, tweet, follow, and a timeline that moves by itself.
//
// Everything that comes from people is put on the page with `textContent`: markup in a tweet is
// shown, never obeyed. The session lies in `sessionStorage`, so that two tabs can be two people.
"use strict";

const TWEET_MAX = 280;          // characters, as the API counts them: code points
const PICTURES_MAX = 4;         // pictures of a tweet
const PICTURE_BYTES_MAX = 5 * 1024 * 1024;
const PICTURE_KINDS = ["image/jpeg", "image/png", "image/webp", "image/gif"];
const PAGE = 20;                // tweets on a page
const POLL_MS = 3000;           // how often to ask where streams do not work
const QUIET_MS = 45000;         // a stream that says nothing for this long is dead
const GONE_MAX = 500;           // removed tweets that are remembered
const RETRY_MS = [500, 1000, 2000, 5000, 10000];

const $ = (id) => document.getElementById(id);

// ---- session and calls -------------------------------------------------------------------------

let session = null;
let refreshing = null;

class Problem extends Error {
  constructor(status, text, code = "") {
    super(text);
    this.status = status;
    this.code = code;
  }
}

function keep(next) {
  session = next;
  if (next) sessionStorage.setItem("session", JSON.stringify(next));
  else sessionStorage.removeItem("session");
}

function restore() {
  try {
    return JSON.parse(sessionStorage.getItem("session"));
  } catch {
    return null;
  }
}

async function problem(answer) {
  let text = `The server answered ${answer.status}.`;
  let code = "";
  try {
    const body = await answer.json();
    text = body.detail || body.title || text;
    code = (body.type ?? "").split(":").at(-1);
  } catch { /* the status has to do */ }
  const wait = answer.headers.get("retry-after");
  if (answer.status === 429 && wait) text = `${text.replace(/\.?$/, ".")} Try again in ${wait} s.`;
  return new Problem(answer.status, text, code);
}

// Gets a new pair of tokens; all who need one wait for the same call, as a refresh token works once.
function refresh() {
  refreshing ??= (async () => {
    try {
      const answer = await fetch("sessions", json("POST", { refresh_token: session.refresh_token }));
      if (!answer.ok) throw await problem(answer);
      keep(await answer.json());
    } finally {
      refreshing = null;
    }
  })();
  return refreshing;
}

function json(method, body, headers = {}) {
  return { method, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) };
}

// A call with the session's token, which is renewed once if it has run out.
async function authed(path, options = {}) {
  for (let attempt = 0; ; attempt++) {
    const used = session;
    if (!used) throw new Problem(401, "You are logged out.");
    const headers = { ...options.headers, authorization: `Bearer ${used.access_token}` };
    const answer = await fetch(path, { ...options, headers });
    if (answer.status !== 401 || attempt > 0) {
      if (!answer.ok) throw await problem(answer);
      return answer;
    }
    // Another call may have renewed it meanwhile.
    if (session === used) {
      try {
        await refresh();
      } catch (error) {
        if (error instanceof Problem && [400, 401, 422].includes(error.status)) leave("Your session has ended. Please log in again.");
        throw error;
      }
    }
  }
}

// ---- what the reader sees ----------------------------------------------------------------------

function say(text, bad = true) {
  $("notice").textContent = text;
  $("notice").classList.toggle("error", bad);
  $("notice").hidden = !text;
}

// Runs what a control stands for: no double clicks, and errors are shown.
async function act(button, work) {
  button.disabled = true;
  say("");
  try {
    await work();
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "AbortError")) {
      say(error instanceof Problem ? error.message : "The server cannot be reached. Try again.");
    }
  } finally {
    button.disabled = false;
    count();
  }
}

function count() {
  const left = TWEET_MAX - [...$("text").value.trim()].length;
  $("counter").textContent = String(left);
  $("counter").classList.toggle("over", left < 0);
  $("post").disabled = left < 0 || left === TWEET_MAX;
}

function show() {
  $("door").hidden = !!session;
  $("home").hidden = !session;
  $("account").hidden = !session;
  $("whoami").textContent = session ? `@${session.user.handle}` : "";
  document.title = session ? `chirp · @${session.user.handle}` : "chirp";
}

// ---- the timeline ------------------------------------------------------------------------------

const shown = new Map();        // id -> element, for every tweet on the page
const gone = new Map();         // id -> tick, for what the stream or the reader removed of late
let next = null;                // cursor of the next older page
let tick = 0;                   // counts what comes and goes, to tell which of two is older

// Ids are decimal numbers too large for a double.
const newer = (a, b) => a.length > b.length || (a.length === b.length && a > b);

function element(tweet) {
  const item = $("tweet").content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(name);
  item.dataset.id = tweet.id;
  part(".name").textContent = tweet.author.name;
  part(".at").textContent = `@${tweet.author.handle}`;
  part(".text").textContent = tweet.text;
  for (const { url, width, height } of tweet.media ?? []) part(".media").append(picture(url, width, height, tweet));
  part(".media").hidden = !tweet.media?.length;
  const at = new Date(tweet.created_at_ms);
  part("time").dateTime = at.toISOString();
  part("time").textContent = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const own = tweet.author.id === session.user.id;
  const button = part(".delete");
  button.hidden = !own;
  button.setAttribute("aria-label", `Delete your tweet: ${tweet.text.slice(0, 40)}`);
  if (own) button.addEventListener("click", () => act(button, () => erase(tweet.id)));
  return item;
}

// Loaded when it comes into view; its size is known before, so that nothing moves.
function picture(url, width, height, tweet) {
  const link = document.createElement("a");
  const image = document.createElement("img");
  link.href = image.src = new URL(url, document.baseURI).href;
  link.target = "_blank";
  link.rel = "noopener";
  Object.assign(image, { loading: "lazy", decoding: "async", width, height, alt: `Picture by @${tweet.author.handle}` });
  link.append(image);
  return link;
}

// Puts a tweet where it belongs, newest first; one that is there already stays.
function place(tweet, fresh) {
  if (shown.has(tweet.id)) return false;
  const item = element(tweet);
  const list = $("timeline");
  let below = list.firstElementChild;
  while (below && newer(below.dataset.id, tweet.id)) below = below.nextElementSibling;
  list.insertBefore(item, below);
  item.classList.toggle("fresh", fresh);
  item.tick = ++tick;
  shown.set(tweet.id, item);
  $("empty").hidden = true;
  return true;
}

function remove(id) {
  const item = shown.get(id);
  const beside = item?.nextElementSibling ?? item?.previousElementSibling;
  // A button that is at work is disabled, and may have lost the focus by that.
  const focused = item && (item.contains(document.activeElement)
    || (document.activeElement === document.body && item.querySelector(".delete").disabled));
  item?.remove();
  shown.delete(id);
  $("empty").hidden = shown.size > 0 || next !== null;
  // The pressed button is gone; the keyboard goes on from its neighbour.
  if (focused) (beside?.querySelector(".delete:not([hidden])") ?? $("text")).focus();
}

function clear() {
  $("timeline").replaceChildren();
  shown.clear();
  gone.clear();
  next = null;
}

// An answer is as old as its request: what the stream told meanwhile stands.
const isNews = (id, asked) => (gone.get(id) ?? 0) > asked;
const outlives = (id, asked) => shown.get(id).tick > asked;

function vanished(id) {
  remove(id);
  if (gone.size >= GONE_MAX) gone.delete(gone.keys().next().value);
  gone.set(id, ++tick);
}

const newest = () => $("timeline").firstElementChild?.dataset.id;

async function page(query, signal) {
  const answer = await authed(`timeline?limit=${PAGE}${query}`, { signal });
  const found = await answer.json();
  $("degraded").hidden = !found.degraded;
  return found;
}

async function first(signal) {
  const asked = tick;
  const found = await page("", signal);
  const there = new Set(found.tweets.map((tweet) => tweet.id));
  for (const id of [...shown.keys()]) if (!there.has(id) && !outlives(id, asked)) remove(id);
  for (const tweet of found.tweets) if (!isNews(tweet.id, asked)) place(tweet, false);
  next = found.next ?? null;
  $("older").hidden = next === null;
  $("empty").hidden = shown.size > 0;
}

async function older() {
  const found = await page(`&before=${encodeURIComponent(next)}`);
  for (const tweet of found.tweets) place(tweet, false);
  next = found.next ?? null;
  $("older").hidden = next === null;
}

function arrived(tweet) {
  gone.delete(tweet.id);
  if (!place(tweet, true)) return;
  // Read out to those who do not see it slide in.
  if (tweet.author.id !== session.user.id) $("announce").textContent = `New tweet by ${tweet.author.name}`;
}

// Whatever is above the newest tweet here (`after` gives the nearest first, so this ends), then the
// first page as it is now: tweets may become visible out of order, and vanish.
async function catchUp(signal) {
  if (!newest()) return first(signal);
  for (let grown = true; grown;) {
    const asked = tick;
    const found = await page(`&after=${encodeURIComponent(newest())}`, signal);
    const before = shown.size;
    for (const tweet of found.tweets.reverse()) if (!isNews(tweet.id, asked)) arrived(tweet);
    grown = shown.size > before;
  }
  const asked = tick;
  const now = await page("", signal);
  for (const tweet of now.tweets) if (!isNews(tweet.id, asked)) arrived(tweet);
  if (now.degraded) return;
  const there = new Set(now.tweets.map((tweet) => tweet.id));
  const last = now.tweets.at(-1)?.id;
  // A page without `next` is the whole timeline; otherwise nothing is known below its last tweet.
  for (const id of [...shown.keys()]) {
    const covered = now.next === undefined || (last && newer(id, last));
    if (covered && !there.has(id) && !outlives(id, asked)) remove(id);
  }
}

// ---- live ---------------------------------------------------------------------------------------

let live = null;                // aborts whatever keeps the timeline moving

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

function connection(text, good) {
  $("connection").textContent = text;
  $("connection").classList.toggle("live", good);
}

// Streams while that works, polls where it does not, and tries again for ever.
async function keepLive() {
  live?.abort();
  live = new AbortController();
  const { signal } = live;
  let failures = 0;
  let streams = true;
  while (!signal.aborted) {
    try {
      await catchUp(signal);
      failures = 0;
      if (streams) {
        streams = await stream(signal);
      } else {
        connection("polling", true);
        await pause(POLL_MS, signal);
      }
    } catch (error) {
      if (signal.aborted) return;
      connection("offline", false);
      await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)], signal);
    }
  }
}

// Reads one stream to its end. `false` if this front door cannot stream.
async function stream(outer) {
  const own = new AbortController();
  const stop = () => own.abort();
  outer.addEventListener("abort", stop, { once: true });
  let timer = setTimeout(stop, QUIET_MS);
  try {
    const answer = await authed("timeline/stream", { signal: own.signal, headers: { accept: "text/event-stream" } });
    if (!answer.body || !answer.headers.get("content-type")?.startsWith("text/event-stream")) return false;
    connection("live", true);
    // What came between the last page and this stream is asked for once.
    await catchUp(own.signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      clearTimeout(timer);
      timer = setTimeout(stop, QUIET_MS);
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) await event(block, own.signal);
    }
  } catch (error) {
    if (error instanceof Problem && [404, 405, 406, 429, 501, 503].includes(error.status)) return false;
    throw error;
  } finally {
    clearTimeout(timer);
    outer.removeEventListener("abort", stop);
  }
}

async function event(block, signal) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  if (name === "reset") return first(signal);
  if (name !== "tweet" && name !== "removed") return;
  let body;
  try {
    body = JSON.parse(data.join("\n"));
  } catch {
    return;
  }
  if (name === "tweet") arrived(body);
  else vanished(body.id);
}

// ---- what the reader does -----------------------------------------------------------------------

async function enter(kind) {
  const handle = $("handle").value.trim().replace(/^@/, "").toLowerCase();
  const password = $("password").value;
  const name = $("name").value.trim();
  const body = kind === "signup" ? { handle, password, ...(name && { name }) } : { handle, password };
  const answer = await fetch(kind === "signup" ? "users" : "sessions", json("POST", body));
  if (!answer.ok) throw await problem(answer);
  keep(await answer.json());
  $("door-form").reset();
  begin();
  $("text").focus();
}

function begin() {
  clear();
  show();
  count();
  keepLive();
}

function leave(text) {
  live?.abort();
  keep(null);
  attempt = null;
  chosen.forEach(unchoose);
  clear();
  show();
  say(text ?? "", true);
  $("people-note").textContent = "";
  $("handle").focus();
}

// ---- pictures of a new tweet ---------------------------------------------------------------------

let chosen = [];                // {file, item, url, id, until}, the last two once it was sent

function choose(files) {
  say("");
  for (const file of files) {
    if (!PICTURE_KINDS.includes(file.type)) {
      say(`${file.name} is no JPEG, PNG, WebP or GIF.`);
    } else if (file.size > PICTURE_BYTES_MAX || file.size === 0) {
      say(`${file.name} is too large: a picture has at most ${PICTURE_BYTES_MAX >> 20} MiB.`);
    } else if (chosen.length >= PICTURES_MAX) {
      say(`A tweet has at most ${PICTURES_MAX} pictures.`);
    } else {
      const item = $("chosen").content.firstElementChild.cloneNode(true);
      const one = { file, item, url: URL.createObjectURL(file) };
      const image = item.querySelector("img");
      image.src = one.url;
      image.alt = file.name;
      image.addEventListener("error", () => { unchoose(one); say(`${file.name} cannot be shown as a picture.`); });
      const button = item.querySelector(".remove");
      button.setAttribute("aria-label", `Remove ${file.name}`);
      button.addEventListener("click", () => { unchoose(one); $("attach").focus(); });
      chosen.push(one);
      $("pictures").append(item);
    }
  }
  chosenChanged();
}

function unchoose(one) {
  chosen = chosen.filter((other) => other !== one);
  URL.revokeObjectURL(one.url);
  one.item.remove();
  chosenChanged();
}

function chosenChanged() {
  $("pictures").hidden = chosen.length === 0;
  $("attach").disabled = chosen.length >= PICTURES_MAX;
}

// Sends one picture, unless that was done and still counts.
async function send(one) {
  if (one.id && Date.now() < one.until) return;
  // By this clock, whatever the server's says: a margin before the 15 minutes end.
  const until = Date.now() + 540_000;
  const asked = await authed("media", json("POST", { content_type: one.file.type, bytes: one.file.size }));
  const { media_id, upload } = await asked.json();
  const bar = one.item.querySelector("progress");
  bar.hidden = false;
  // Not `fetch`, which does not tell how far it is.
  const status = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(upload.method, new URL(upload.url, document.baseURI));
    for (const [name, value] of Object.entries(upload.headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (e) => { if (e.lengthComputable) bar.value = e.loaded / e.total; });
    request.addEventListener("load", () => resolve(request.status));
    request.addEventListener("error", () => reject(new TypeError("the upload broke off")));
    request.send(one.file);
  }).finally(() => { bar.hidden = true; });
  if (status < 200 || status > 299) throw new Problem(status, `${one.file.name} could not be sent (${status}). Try again.`);
  one.id = media_id;
  one.until = until;
}

// Refusals after which an upload is of no use any more.
const UPLOAD_GONE = ["media-unknown", "media-expired", "media-not-uploaded", "media-used"];

let attempt = null;             // what was sent without an answer: {sent, pictures, key}

// One attempt to post has one key, so that trying again can never post twice: not at once, and not
// when the reader sends the same text again after an answer was lost.
async function post() {
  const text = $("text").value.trim();
  const pictures = [...chosen];
  const again = attempt?.sent.text === text && attempt.pictures.length === pictures.length
    && pictures.every((one, at) => one === attempt.pictures[at]);
  if (!again) {
    for (const one of pictures) await send(one);
    const sent = { text, ...(pictures.length && { media: pictures.map((one) => one.id) }) };
    const key = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
    attempt = { sent, pictures, key };
  }
  const options = json("POST", attempt.sent, { "idempotency-key": attempt.key });
  const author = session.user.id;
  let answer;
  try {
    answer = await authed("tweets", options).catch((error) => {
      // Nor for somebody else, who has logged in meanwhile.
      if (isRefusal(error) || session?.user.id !== author) throw error;
      return authed("tweets", options);
    });
  } catch (error) {
    if (isRefusal(error)) {
      attempt = null;
      for (const one of pictures) {
        error.message = error.message.replaceAll(`picture ${one.id}`, one.file.name);
        // The next try sends them again. After other refusals it does not: each time would take places
        // of uploads, of which a user has a few.
        if (UPLOAD_GONE.includes(error.code)) one.id = undefined;
      }
    }
    throw error;
  }
  attempt = null;
  const tweet = await answer.json();
  pictures.forEach(unchoose);
  $("text").value = "";
  place(tweet, true);
  $("text").focus();
}

// Whether nothing was done for sure: a 5xx, as no answer at all, leaves that open.
const isRefusal = (error) => error instanceof Problem && error.status < 500;

async function erase(id) {
  await authed(`tweets/${encodeURIComponent(id)}`, { method: "DELETE" });
  vanished(id);
}

async function relate(kind) {
  const handle = $("whom").value.trim().replace(/^@/, "").toLowerCase();
  if (!handle) return;
  const note = $("people-note");
  note.textContent = "";
  if (kind === "follow") {
    await authed("follow", json("POST", { handle }));
    note.textContent = `You follow @${handle}.`;
  } else {
    const answer = await authed(`follow/${encodeURIComponent(handle)}`, { method: "DELETE" });
    note.textContent = answer.status === 202 ? `Unfollowing @${handle}…` : `You do not follow @${handle}.`;
  }
  $("whom").value = "";
  await first();
}

$("door-form").addEventListener("submit", (e) => {
  e.preventDefault();
  const button = e.submitter ?? $("signup");
  act(button, () => enter(button.value));
});
$("logout").addEventListener("click", () => act($("logout"), async () => {
  try {
    await authed("sessions", { method: "DELETE" });
  } finally {
    leave();
  }
}));
$("compose").addEventListener("submit", (e) => {
  e.preventDefault();
  if (!$("post").disabled) act($("post"), post);
});
$("attach").addEventListener("click", () => $("picture").click());
$("picture").addEventListener("change", () => {
  choose($("picture").files);
  // The same file may be chosen again.
  $("picture").value = "";
});
$("text").addEventListener("input", count);
$("text").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) $("compose").requestSubmit();
});
$("people").addEventListener("submit", (e) => {
  e.preventDefault();
  const button = e.submitter ?? $("follow");
  act(button, () => relate(button.value));
});
$("older").addEventListener("click", () => act($("older"), older));

keep(restore());
if (session) begin();
else show();
