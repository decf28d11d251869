// One event stream for each page. Events are doorbells: they say what changed, and whoever shows it
// fetches it by a normal GET. The stream is closed while nobody looks at the page.
(() => {
  "use strict";
  const STALE_MS = 15_000, DEAD_MS = 30_000, CAP_MS = 5_000;
  const WORDS = {
    live: "Live",
    stale: "Stale",
    off: "Disconnected",
  };
  const root = document.documentElement;
  const url = document.body.dataset.events;
  if (!url) return;
  let stream = null, heard = Date.now(), tries = 0, retry = 0;

  const show = (state) => {
    if (root.dataset.live === state) return;
    root.dataset.live = state;
    const element = document.getElementById("live-state");
    if (element) element.textContent = WORDS[state];
  };

  const ring = (name) => document.body.dispatchEvent(new CustomEvent(name));

  const alive = () => { heard = Date.now(); tries = 0; show("live"); };

  const close = () => { clearTimeout(retry); stream?.close(); stream = null; };

  const open = () => {
    close();
    stream = new EventSource(url);
    stream.addEventListener("beat", alive);
    stream.addEventListener("outcomes", () => { alive(); ring("outcomes"); });
    stream.addEventListener("changed", (event) => {
      alive();
      noteChange(event.data);
      ring("changed:" + event.data);
    });
    // The browser would try again by itself, but not after an answer such as 503.
    stream.onerror = () => {
      close();
      show("off");
      const pause = Math.min(CAP_MS, 500 * 2 ** tries++) * (0.75 + Math.random() / 2);
      retry = setTimeout(reopen, Math.min(CAP_MS, pause));
    };
  };

  // What was missed while the line was down is fetched once it is up.
  const reopen = () => {
    open();
    stream.addEventListener("beat", () => ring("outcomes"), { once: true });
  };

  // A form that somebody has begun to fill in stays as it is, and says that it is behind.
  const noteChange = (topic) => {
    for (const form of document.querySelectorAll("form[data-topic][data-dirty]")) {
      if (form.dataset.topic === topic) form.dataset.behind = "";
    }
  };

  setInterval(() => {
    if (document.hidden || !stream) return;
    const age = Date.now() - heard;
    if (age > STALE_MS) show("stale");
    if (age > DEAD_MS) { heard = Date.now(); reopen(); }
  }, 1_000);

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else { heard = Date.now(); reopen(); }
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) reopen(); });
  open();
})();
