// Panel of the segmentation: which modalities are used, what comes out of them, and all 15 subsets.

import { get } from "./api.js";
import { REGIONS } from "./colours.js";
import { checkbox, fill, h, select } from "./dom.js";
import { dots, MODALITIES } from "./modalities.js";
import { attempt, runJob } from "./notices.js";
import { swatch } from "./toolbar.js";

// Time between two looks at what the server computes in the background.
const FOLLOW_MS = 2000;

/** Panel with the switches of the modalities. */
export class SegmentPanel {
  title = "Segment";

  constructor(workspace) {
    this.workspace = workspace;
    this.grid = null;
    this.switches = MODALITIES.map((name) => {
      const exists = workspace.modalities.includes(name);
      return h(
        "button",
        { type: "button", role: "switch", class: "switch", "aria-checked": "false", onclick: () => this.toggle(name) },
        h("span", { class: "knob", "aria-hidden": "true" }),
        h("span", {}, name),
        h("span", { class: "quiet" }, exists ? "" : "not in this case"),
      );
    });
    this.weights = h("div");
    this.result = h("div", { class: "result", "aria-live": "polite" });
    this.subsets = h("div", { class: "subsets" });
    this.hint = h("p", { class: "hint", "aria-live": "polite" });
    this.element = h("div", { class: "panel" }, this.weights, h("div", { class: "switches", role: "group", "aria-label": "Modalities used" }, this.switches), this.result, this.subsets, this.hint);
  }

  /** Switch a modality on or off; the last one stays on. */
  toggle(name) {
    const { workspace } = this;
    if (!workspace.modalities.includes(name)) return;
    const used = new Set(workspace.subset.split("+"));
    if (used.has(name)) used.delete(name);
    else used.add(name);
    if (!used.size) {
      this.hint.textContent = "At least one modality stays on.";
      return;
    }
    this.choose(MODALITIES.filter((modality) => used.has(modality)).join("+"));
  }

  choose(subset) {
    attempt(() => this.workspace.segment(subset));
  }

  toggleChange() {
    this.workspace.change = !this.workspace.change;
    attempt(() => this.workspace.update());
  }

  refresh() {
    const { workspace } = this;
    const { weights, problem } = workspace.studio.state;
    const inUse = weights.find(({ name }) => name === workspace.weights);
    const description = inUse && `${inUse.system}. ${inUse.description}`;
    const used = workspace.subset.split("+");
    this.switches.forEach((button, at) => {
      button.disabled = !weights.length || !workspace.modalities.includes(MODALITIES[at]);
      button.setAttribute("aria-checked", String(used.includes(MODALITIES[at])));
    });
    fill(
      this.weights,
      weights.length
        ? select("Weights", weights.map(({ name }) => [name, name]), workspace.weights, (name) => this.useWeights(name), { title: description })
        : h("p", { class: "notice-inline" }, problem?.what ?? "There are no weights.", " ", problem?.fix ?? ""),
    );
    fill(this.result, this.showResult());
    this.showSubsets();
  }

  useWeights(name) {
    this.grid = null;
    clearTimeout(this.timer);
    attempt(() => this.workspace.segment(this.workspace.subset, name));
  }

  showResult() {
    const { workspace } = this;
    const found = workspace.segmentation;
    if (workspace.isComputing) return h("p", { class: "quiet" }, `Segmenting from ${workspace.subset}.`);
    if (!found) return null;
    const isFull = workspace.isFull();
    const change = found.compared_with_full;
    const cells = ({ name, title, colour }) => [
      h("th", { scope: "row", title }, swatch(colour), name),
      h("td", { class: "number", "data-region": name }, millilitres(found.volumes_ml[name])),
      h("td", { class: "number" }, percent(found.confidence?.[name])),
      isFull ? null : h("td", { class: "number", title: "mL added and lost against all scans" }, changed(change?.[name])),
      found.dice ? h("td", { class: "number" }, percent(found.dice[name])) : null,
    ];
    const titles = ["Region", "mL", "Confidence", isFull ? null : "Change", found.dice ? "Dice" : null].filter(Boolean);
    return [
      h("table", { class: "volumes" }, h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title)))), h("tbody", {}, REGIONS.map((region) => h("tr", {}, cells(region))))),
      isFull ? h("p", { class: "quiet" }, "All scans of the case are used.") : checkbox("Draw the change against all scans (c)", workspace.change, () => this.toggleChange()),
      found.gain ? h("p", {}, found.gain.text) : null,
    ];
  }

  showSubsets() {
    if (!this.grid) return fill(this.subsets);
    const isDice = this.grid.subsets.some(({ dice }) => dice);
    const focused = this.subsets.contains(document.activeElement) ? document.activeElement.dataset.subset : null;
    fill(
      this.subsets,
      h("h3", {}, `All subsets: ${isDice ? "mean Dice, percent" : "whole tumour, mL"}`),
      h("p", { class: "quiet" }, "Dots from the left: T1, T1c, T2, FLAIR."),
      h("div", { class: "grid", role: "group", "aria-label": "Subsets" }, this.grid.subsets.map((entry) => this.cell(entry, isDice))),
      this.isComplete() ? null : h("button", { type: "button", onclick: () => attempt(() => this.compute()) }, "Compute all subsets"),
    );
    if (focused) this.subsets.querySelector(`[data-subset="${focused}"]`)?.focus();
  }

  isComplete() {
    return this.grid?.subsets.every(({ available, state }) => !available || state === "done");
  }

  /** Show what is known of all subsets now, and again while the server computes the others in the background. */
  async followSubsets() {
    const { workspace } = this;
    clearTimeout(this.timer);
    if (!workspace.weights || workspace.isLeft) return;
    try {
      const grid = await get(`${workspace.path}/subsets?weights=${encodeURIComponent(workspace.weights)}`);
      const isNew = JSON.stringify(grid) !== JSON.stringify(this.grid);
      this.grid = grid;
      if (isNew) this.showSubsets();
    } catch {
      return; // the next segmentation shows what is wrong
    }
    if (!this.isComplete() && !workspace.isLeft) this.timer = setTimeout(() => this.followSubsets(), FOLLOW_MS);
  }

  cell({ subset, available, wt_ml: volume, dice, state }, isDice) {
    const value = state !== "done" ? "" : isDice ? (dice ? (100 * meanOf(Object.values(dice))).toFixed(0) : "") : volume.toFixed(1);
    const what = !available ? "not in this case" : value ? `${isDice ? "mean Dice" : "whole tumour"} ${value} ${isDice ? "percent" : "mL"}` : "not computed";
    const hint = () => this.showHint(subset, what);
    return h(
      "button",
      { type: "button", class: "cell", disabled: !available, "data-subset": subset, "aria-pressed": String(subset === this.workspace.subset), "aria-label": `${subset}: ${what}`, onclick: () => this.choose(subset), onmouseenter: hint, onfocus: hint },
      dots(subset),
      h("span", { class: "value" }, value || "–"),
    );
  }

  showHint(subset, what) {
    const matters = this.grid.matters_most?.[subset];
    const most = matters ? (subset.includes("+") ? ` ${matters} matters most here.` : "") : "";
    this.hint.textContent = `${subset}: ${what}.${most}`;
  }

  async compute() {
    const { path, weights } = this.workspace;
    await runJob("Segmenting from all subsets", `${path}/subsets`, { weights });
    await this.followSubsets();
  }
}

/** Return a volume as printed. */
export const millilitres = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));

/** Return a fraction as percent, as printed. */
export const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)} %`);

function changed(change) {
  return change ? `+${change.added_ml.toFixed(1)} −${change.lost_ml.toFixed(1)}` : "–";
}

function meanOf(values) {
  const finite = values.filter((value) => Number.isFinite(value));
  return finite.reduce((sum, value) => sum + value, 0) / finite.length;
}
