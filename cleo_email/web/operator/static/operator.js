// What the page does without being asked: local times, new mail, keys. Everything works without it.
"use strict";
document.documentElement.classList.add("scripted");

// The page may be in another language than the browser: names of months are in that of the page.
const language = document.documentElement.lang;
const locale = navigator.languages.find(one => one.split("-")[0] === language) || (language === "en" ? "en-GB" : language);

function localTimes(root) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll("time:not([title])")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    time.title = time.textContent;
    const clock = {hour: "2-digit", minute: "2-digit"};
    const day = {day: "numeric", month: "short"};
    if (at.getFullYear() !== new Date().getFullYear()) day.year = "numeric";
    const how = at.toDateString() === today ? clock : {...day, ...clock};
    time.textContent = at.toLocaleString(locale, how);
  }
}

// New mail: the list is fetched as a part of itself, and takes the place of the old one where it differs.
const live = document.getElementById("live");
if (live && live.dataset.live) {
  const asWritten = html => { // as the browser itself would write it
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.innerHTML.trim();
  };
  let last = live.innerHTML.trim(), looks = 0; // before its times are made local ones
  const refresh = async () => {
    if (document.hidden) return;
    const look = ++looks;
    let answer = null, html = "";
    try {
      answer = await fetch(live.dataset.live, {credentials: "same-origin"});
      html = asWritten(await answer.text());
    } catch { answer = null; }
    if (look !== looks) return; // a later look is on its way, or was quicker
    if (answer && answer.status === 401) { location.reload(); return; }
    const stale = document.getElementById("stale");
    if (stale.hidden !== Boolean(answer && answer.ok)) stale.hidden = !stale.hidden;
    if (!answer || !answer.ok) return;
    if (html !== last) {
      const focused = document.activeElement && document.activeElement.getAttribute("href");
      const known = new Set([...live.querySelectorAll(".row")].map(row => row.getAttribute("href")));
      live.innerHTML = html;
      localTimes(live);
      for (const row of live.querySelectorAll(".row"))
        if (!known.has(row.getAttribute("href"))) row.parentElement.classList.add("new");
      if (focused) for (const one of live.querySelectorAll("a")) if (one.getAttribute("href") === focused) one.focus();
      const count = live.querySelector(".st.waiting b").textContent;
      document.title = document.title.replace(/^(\(\d+\) )?/, count === "0" ? "" : `(${count}) `);
      const news = document.getElementById("news");
      news.textContent = news.dataset.text;
    }
    last = html;
  };
  refresh();
  setInterval(refresh, 4000);
  document.addEventListener("visibilitychange", refresh);
}
localTimes(document);

// A message that moves on while it is looked at.
const watched = document.querySelector("[data-watch]");
if (watched) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(watched.dataset.watch + "?part=seen", {credentials: "same-origin"});
      if (answer.ok && (await answer.text()) === watched.dataset.seen) return;
      clearInterval(timer);
      if (answer.ok) document.getElementById("moved").hidden = false;
    } catch { return; }
  }, 4000);
}

// Forms: ask before what ends a message, and send each once.
document.addEventListener("submit", event => {
  const button = event.submitter, form = event.target;
  if (button && button.dataset.confirm && !confirm(button.dataset.confirm)) { event.preventDefault(); return; }
  if (form.method !== "post" || (button && "keep" in button.dataset)) return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "1";
  setTimeout(() => { for (const one of form.querySelectorAll("button")) one.disabled = true; });
});
addEventListener("pageshow", event => {
  if (!event.persisted) return;
  for (const form of document.forms) { delete form.dataset.sent; for (const one of form.querySelectorAll("button")) one.disabled = false; }
});

// Keys: only where nobody types.
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "/" && document.getElementById("q")) { event.preventDefault(); document.getElementById("q").focus(); }
  if (event.key === "u" && document.getElementById("back")) document.getElementById("back").click();
  const step = {j: 1, k: -1}[event.key];
  if (!step) return;
  const rows = [...document.querySelectorAll(".row")];
  const at = rows.indexOf(document.activeElement);
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
  if (next) { event.preventDefault(); next.focus(); }
});
