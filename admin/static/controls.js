// Slider, number and presets of a share say the same thing, and so does the command beside them.
// Events are taken at the document, so that nothing is lost when a part of the page is replaced.
(() => {
  "use strict";
  const STEPS = 10_000;

  const round = (value) => Math.round(value * STEPS) / STEPS;

  const parse = (text) => {
    const value = Number(text.trim().replace(",", "."));
    return text.trim() !== "" && value >= 0 && value <= 100 ? round(value) : null;
  };

  const set = (form, value, source) => {
    const { share, slider } = form.elements;
    if (source !== share) share.value = String(value);
    if (source !== slider) slider.value = String(value);
    tell(form, value);
    dirty(form);
  };

  const tell = (form, value) => {
    const now = Number(form.dataset.now);
    const smaller = value <= now || "killed" in form.dataset;
    form.querySelector("[data-deed]").textContent =
      value === now ? "Review change" : (smaller ? "Apply " : "Review ") + value + "\u202f%";
    for (const element of form.querySelectorAll("[data-echo=share]")) element.textContent = value;
    for (const button of form.querySelectorAll("button[name=preset]")) {
      button.toggleAttribute("data-chosen", Number(button.value) === value);
    }
  };

  // htmx leaves alone what carries hx-morph-skip; see live.js for what the form then says.
  const dirty = (form) => {
    form.dataset.dirty = "";
    form.setAttribute("hx-morph-skip", "");
  };

  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-topic]");
    if (!form) return;
    dirty(form);
    if (event.target.name === "share") {
      const value = parse(event.target.value);
      if (value !== null) set(form, value, event.target);
    } else if (event.target.name === "slider") {
      set(form, round(Number(event.target.value)), event.target);
    }
  });

  document.addEventListener("click", (event) => {
    const preset = event.target.closest("button[name=preset]");
    if (preset) {
      event.preventDefault();
      set(preset.closest("form"), Number(preset.value), preset);
      return;
    }
    const copy = event.target.closest("button[data-copy]");
    if (copy) copyText(copy);
    const dismiss = event.target.closest("button[data-dismiss]");
    if (dismiss) dismiss.parentElement.remove();
  });

  // A question that opens in place begins at its answer. Where scripts run, only while it opens: what
  // carries `autofocus` takes the focus again whenever a part of the page is replaced.
  for (const button of document.querySelectorAll("[popover] [autofocus]")) {
    button.removeAttribute("autofocus");
  }
  const first = (event, opens) => {
    if (event.newState !== "open") return;
    event.target.querySelector?.("[data-first]")?.toggleAttribute("autofocus", opens);
  };
  document.addEventListener("beforetoggle", (event) => first(event, true), true);
  document.addEventListener("toggle", (event) => first(event, false), true);

  // Alt+R asks about the first rollout of the strip; browsers that know access keys do so themselves.
  document.addEventListener("keydown", (event) => {
    if (!event.altKey || event.ctrlKey || event.metaKey || event.code !== "KeyR") return;
    const button = document.querySelector("#strip [accesskey]");
    if (!button) return;
    event.preventDefault();
    button.click();
  });

  const copyText = async (button) => {
    const text = document.getElementById(button.dataset.copy).textContent.trim();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Press Ctrl+C";
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2_000);
  };

  // What is left of a step's wait goes on between two answers of the server; each answer is right.
  const timers = new WeakMap();

  const count = () => {
    for (const element of document.querySelectorAll("[data-left]")) {
      const told = element.dataset.left;
      if (timers.get(element)?.told !== told) timers.set(element, { told, at: performance.now() });
      const left = Number(told) - (performance.now() - timers.get(element).at) / 1_000;
      const words = clock(Math.max(0, Math.round(left)));
      if (element.textContent !== words) element.textContent = words;
    }
  };

  const clock = (left) => {
    const two = (number) => String(number).padStart(2, "0");
    if (left >= 86_400) return `${Math.floor(left / 86_400)}\u202fd ${Math.floor(left / 3_600) % 24}\u202fh`;
    const hours = Math.floor(left / 3_600), minutes = Math.floor(left / 60) % 60;
    return (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(left % 60);
  };

  count();
  setInterval(count, 1_000);
})();
