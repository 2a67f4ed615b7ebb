// Small things on top of plain forms and links: nothing here is needed to use the pages.
(() => {
  "use strict";
  document.documentElement.classList.add("js");

  const lang = document.documentElement.lang;
  const day = { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" };
  const shown = new Intl.DateTimeFormat(lang, { year: "numeric", ...day });
  // The year goes without saying.
  const thisYear = new Intl.DateTimeFormat(lang, day);

  function localise(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.title = time.textContent;
      const now = new Date().getFullYear() === at.getFullYear();
      time.textContent = (now ? thisYear : shown).format(at);
    }
  }

  function menu() {
    const button = document.querySelector("button.menu");
    const nav = document.getElementById("nav");
    if (!button || !nav) return;
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      nav.classList.toggle("open", open);
    });
  }

  function live() {
    const log = document.getElementById("log");
    if (!log || !window.EventSource) return;
    const source = new EventSource(log.dataset.src);
    const state = document.getElementById("log-state");
    source.onopen = () => { if (state) state.hidden = false; };
    source.onmessage = (event) => {
      const row = JSON.parse(event.data);
      const line = document.createElement("li");
      line.className = row.level;
      for (const part of ["at", "level", "target", "message"]) {
        const cell = document.createElement("span");
        cell.className = part;
        cell.textContent = row[part];
        line.append(cell);
      }
      const end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      log.append(line);
      while (log.children.length > 1000) log.firstChild.remove();
      if (end) log.scrollTop = log.scrollHeight;
    };
  }

  document.addEventListener("DOMContentLoaded", () => {
    menu();
    localise(document);
    live();
    // What is refused is told by a page: the form is sent once more, as a plain one.
    document.addEventListener("htmx:responseError", (event) => {
      if (event.target.tagName === "FORM") event.target.submit();
    });
    document.addEventListener("htmx:afterSettle", () => localise(document));
  });

  document.addEventListener("change", (event) => {
    const target = event.target;
    if (target.matches("select.auto")) target.form.requestSubmit();
    if (target.matches("input.all")) {
      for (const box of document.querySelectorAll(`input[name="${target.dataset.of}"]`)) box.checked = target.checked;
    }
  });

  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const field = button.parentElement.querySelector("input, code");
    const text = field.value ?? field.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      if (field.select) { field.select(); document.execCommand("copy"); }
    }
    button.textContent = button.dataset.done;
  });
})();
