// What was found in the files of a case: the doctor's findings, and which scan is which modality.

import { post } from "./api.js";
import { fill, h } from "./dom.js";
import { MODALITIES } from "./modalities.js";
import { attempt } from "./notices.js";

const LEVELS = { error: "Error", warning: "Warning", note: "Note", info: "Note", ok: "Good" };

/** Show the findings and the assignment of a case, which the user corrects before it is prepared. */
export function showProposal(view, data) {
  const start = h("button", { type: "button", class: "primary" }, "Start");
  const message = h("p", { class: "quiet", role: "status" });
  const assigned = Object.fromEntries(data.scans.map((scan) => [scan.file, scan.modality]));
  const check = () => {
    const used = Object.values(assigned).filter(Boolean);
    const twice = used.find((modality, at) => used.indexOf(modality) !== at);
    start.disabled = !used.length || Boolean(twice);
    if (twice) message.textContent = `Two scans are assigned to ${twice}. Leave one of them out.`;
    else message.textContent = used.length ? "" : "No scan is assigned. Choose the modality of at least one.";
  };
  const choose = async (file, modality) => {
    assigned[file] = modality || null;
    check();
    if (start.disabled) return;
    await attempt(async () => {
      const changed = await post(`${view.path}/assignment`, assigned);
      fill(findings, listFindings(changed.findings));
      fill(plan, listPlan(changed.plan));
    });
  };
  start.addEventListener("click", async () => {
    start.disabled = true;
    await view.prepare();
    start.disabled = false;
  });
  const findings = h("div", {}, listFindings(data.findings));
  const plan = h("div", {}, listPlan(data.plan));
  fill(
    view.root,
    h(
      "section",
      { class: "proposal", "aria-labelledby": "proposal-title" },
      h("h2", { id: "proposal-title" }, "Are these the right scans?"),
      scanTable(data.scans, choose),
      h("div", { class: "buttons" }, start, message),
      findings,
      plan,
    ),
  );
  check();
  start.focus();
}

function scanTable(scans, choose) {
  const row = (scan) => {
    const list = h(
      "select",
      { "aria-label": `Modality of ${scan.name}`, onchange: () => choose(scan.file, list.value) },
      h("option", { value: "" }, "leave out"),
      MODALITIES.map((modality) => h("option", { value: modality }, modality)),
    );
    list.value = scan.modality ?? "";
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, scan.name),
      h("td", {}, list),
      h("td", {}, scan.why ?? ""),
      h("td", { class: "number" }, scan.shape?.join(" × ") ?? ""),
      h("td", { class: "number" }, scan.spacing_mm?.map((side) => side.toFixed(2)).join(" × ") ?? ""),
    );
  };
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "wide" },
      h("caption", { class: "quiet" }, "Correct the modality where it is wrong; a scan that is left out is not used."),
      h("thead", {}, h("tr", {}, ["File", "Modality", "Why", "Voxels", "Spacing (mm)"].map((title, at) => h("th", { scope: "col", class: at > 2 ? "number" : null }, title)))),
      h("tbody", {}, scans.map(row)),
    ),
  );
}

function listFindings(findings) {
  if (!findings?.length) return [h("h3", {}, "Findings"), h("p", { class: "quiet" }, "Nothing unusual was found.")];
  return [
    h("h3", {}, "Findings"),
    h(
      "ul",
      { class: "findings" },
      findings.map(({ level, scan, text, advice }) =>
        h(
          "li",
          { class: `finding ${level}` },
          h("strong", {}, `${LEVELS[level] ?? level}: `),
          scan ? `${scan}: ` : "",
          text,
          advice ? h("p", {}, advice) : null,
        ),
      ),
    ),
  ];
}

function listPlan(plan) {
  return plan?.length ? [h("h3", {}, "What will be done"), h("ol", {}, plan.map((step) => h("li", {}, step)))] : [];
}
