// Panels of which one is shown, chosen by tabs.

import { h } from "./dom.js";

/** Return an element with a tab per panel; panels have `title` and `element`. */
export function tabbed(panels) {
  const bodies = panels.map((panel, at) => h("div", { role: "tabpanel", id: `panel-${at}`, "aria-labelledby": `tab-${at}` }, panel.element));
  const choose = (chosen) => {
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === chosen));
      tab.tabIndex = at === chosen ? 0 : -1;
      bodies[at].hidden = at !== chosen;
    });
  };
  const tabs = panels.map((panel, at) =>
    h("button", { type: "button", role: "tab", id: `tab-${at}`, "aria-controls": `panel-${at}`, onclick: () => choose(at) }, panel.title),
  );
  const list = h("div", { role: "tablist", "aria-label": "Controls" }, tabs);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    choose(at);
    tabs[at].focus();
  });
  choose(0);
  return h("aside", { class: "side", "aria-label": "Controls" }, list, bodies);
}
