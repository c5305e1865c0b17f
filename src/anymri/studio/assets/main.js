// Entry of the page: what is open, which of it is shown, theme, help, and files that are dropped.

import { get, remove } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { CaseView } from "./case.js";
import { EvaluationView } from "./evaluation.js";
import { showHelp } from "./keys.js";
import { chooseFiles, listenForDrops } from "./upload.js";
import { showError, attempt } from "./notices.js";
import { startTheme } from "./theme.js";

const studio = { state: null, view: null, current: null, reload, open };

async function reload() {
  studio.state = await get("/api/state");
  listEntries();
}

function listEntries() {
  const { entries } = studio.state;
  const item = (entry) =>
    h(
      "li",
      { class: entry.id === studio.current ? "current" : "" },
      h(
        "button",
        {
          type: "button",
          class: "entry",
          "data-id": entry.id,
          "aria-current": entry.id === studio.current ? "true" : null,
          onclick: () => attempt(() => open(entry)),
        },
        h("span", { class: "entry-name" }, entry.name),
        h("span", { class: `state ${entry.state}` }, describe(entry)),
      ),
      entry.kind === "case" &&
        h("button", { type: "button", class: "close", "aria-label": `Close ${entry.name}`, onclick: () => attempt(() => close(entry)) }, "×"),
    );
  const group = (title, kind) => {
    const chosen = entries.filter((entry) => entry.kind === kind);
    return chosen.length ? [h("h2", {}, title), h("ul", {}, chosen.map(item))] : [];
  };
  fill(byId("entries"), group("Cases", "case"), group("Evaluations", "evaluation"));
  document.body.classList.toggle("no-entries", entries.length === 0);
}

function describe(entry) {
  if (entry.kind === "evaluation") return "table and plot";
  return { found: "not read yet", proposed: "to confirm", ready: "ready", failed: "failed" }[entry.state] ?? entry.state;
}

/** Show a case or an evaluation. */
async function open(entry) {
  if (studio.view && !studio.view.mayLeave()) return;
  studio.view?.leave();
  studio.current = entry.id;
  byId("place").textContent = entry.name;
  document.title = `${entry.name} - anymri studio`;
  const View = entry.kind === "case" ? CaseView : EvaluationView;
  studio.view = new View(studio, entry, byId("content"));
  listEntries();
  await studio.view.start();
}

async function close(entry) {
  if (entry.id === studio.current && !studio.view.mayLeave()) return;
  await remove(`/api/cases/${encodeURIComponent(entry.id)}`);
  if (entry.id === studio.current) welcome();
  await reload();
}

function welcome() {
  studio.view?.leave();
  studio.view = null;
  studio.current = null;
  byId("place").textContent = "";
  document.title = "anymri studio";
  fill(
    byId("content"),
    h(
      "section",
      { class: "welcome" },
      h("h2", {}, "See what a missing modality changes"),
      h("p", {}, "Open the MRI scans of one patient: T1, T1c, T2, FLAIR, or any of them."),
      h("p", {}, "Drop NIfTI or NRRD files, a DICOM folder or a zip file anywhere on this page, or choose them:"),
      h(
        "p",
        { class: "buttons" },
        h("button", { type: "button", class: "primary", onclick: () => chooseFiles(studio, false) }, "Choose files"),
        h("button", { type: "button", onclick: () => chooseFiles(studio, true) }, "Choose a folder"),
      ),
      h("p", { class: "quiet" }, "Nothing leaves this machine. For research only, not for diagnosis."),
    ),
  );
}

async function start() {
  startTheme(byId("theme"));
  byId("help").addEventListener("click", showHelp);
  byId("open-files").addEventListener("click", () => chooseFiles(studio, false));
  document.addEventListener("keydown", (event) => onKey(event), true);
  window.addEventListener("beforeunload", (event) => studio.view?.workspace?.isUnsaved() && event.preventDefault());
  listenForDrops(studio);
  welcome();
  await reload();
  const { entries } = studio.state;
  if (entries.length === 1) await open(entries[0]);
}

function onKey(event) {
  const target = event.target;
  const isCanvas = target.tagName === "CANVAS";
  const isTyping = target.matches?.("input:not([type=checkbox]):not([type=radio]), select, textarea");
  const isModal = document.querySelector("dialog[open]");
  if (!isTyping && !isModal && !event.ctrlKey && !event.metaKey && !event.altKey && event.key === "?") {
    event.preventDefault();
    showHelp();
  } else if (!isTyping && !isModal) {
    studio.view?.key?.(event);
  }
  // The viewer has keys of its own, which are not those of this page.
  if (isCanvas && event.key !== "Tab") event.stopPropagation();
}

window.addEventListener("error", (event) => showError(event.error ?? new Error(event.message)));
window.addEventListener("unhandledrejection", (event) => showError(event.reason));
attempt(start);
