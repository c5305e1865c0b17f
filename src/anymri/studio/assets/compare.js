// Panel that compares two label maps side by side: systems, or a system and an expert.

import { post } from "./api.js";
import { REGIONS } from "./colours.js";
import { checkbox, fill, h, select } from "./dom.js";
import { attempt } from "./notices.js";
import { millilitres, percent } from "./segment.js";
import { swatch } from "./toolbar.js";

/** Panel with the two label maps to compare. */
export class ComparePanel {
  title = "Compare";

  constructor(workspace) {
    this.workspace = workspace;
    this.left = null;
    this.right = null;
    this.found = null;
    this.choices = h("div", { class: "stack" });
    this.result = h("div", { "aria-live": "polite" });
    this.element = h("div", { class: "panel" }, this.choices, this.result);
  }

  references() {
    const { studio, data, subset } = this.workspace;
    return [
      ...studio.state.weights.map(({ name }) => [`weights:${name}`, `${name} from ${subset}`]),
      ...data.labels.map(({ name, title }) => [`label:${name}`, title]),
    ];
  }

  refresh() {
    const options = this.references();
    const known = options.map(([key]) => key);
    if (!known.includes(this.left)) this.left = known.find((key) => key === `weights:${this.workspace.weights}`) ?? known[0];
    if (!known.includes(this.right)) this.right = known.find((key) => key.startsWith("label:") && key !== this.left) ?? known.find((key) => key !== this.left);
    if (options.length < 2) {
      fill(this.choices, h("p", { class: "quiet" }, "There is one label map only. Install more weights, or open a case with an expert's label map."));
      return;
    }
    const isOpen = Boolean(this.workspace.beside?.reference);
    fill(
      this.choices,
      select("Left", options, this.left, (key) => this.choose("left", key)),
      select("Right", options, this.right, (key) => this.choose("right", key)),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: isOpen ? "" : "primary", onclick: () => attempt(() => this.compare()) }, "Compare"),
        isOpen && h("button", { type: "button", onclick: () => this.close() }, "Show one view"),
      ),
      isOpen && checkbox("Draw where they disagree", this.workspace.beside.showDisagreement, (isShown) => this.mark(isShown)),
    );
    fill(this.result, isOpen && this.found ? this.table() : null);
  }

  choose(where, key) {
    this[where] = key;
    if (this.workspace.beside?.reference) attempt(() => this.compare());
  }

  reference(key) {
    const [kind, name] = [key.slice(0, key.indexOf(":")), key.slice(key.indexOf(":") + 1)];
    return kind === "label" ? { label: name } : { weights: name, subset: this.workspace.subset };
  }

  async compare() {
    const { workspace } = this;
    const [a, b] = [this.reference(this.left), this.reference(this.right)];
    // Both are computed first, so that the comparison itself is quick.
    for (const reference of [a, b]) await workspace.labels.of(reference);
    this.found = await post(`${workspace.path}/compare`, { a, b });
    workspace.beside = { left: a, reference: b, disagreement: this.found.disagreement_url, showDisagreement: workspace.beside?.showDisagreement ?? true };
    await workspace.update();
  }

  mark(isShown) {
    this.workspace.beside.showDisagreement = isShown;
    attempt(() => this.workspace.update());
  }

  close() {
    this.workspace.beside = null;
    attempt(() => this.workspace.update());
  }

  table() {
    const { dice, volumes_ml: volumes } = this.found;
    return h(
      "table",
      { class: "volumes" },
      h("thead", {}, h("tr", {}, ["Region", "Left mL", "Right mL", "Dice"].map((title) => h("th", { scope: "col" }, title)))),
      h(
        "tbody",
        {},
        REGIONS.map(({ name, title, colour }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row", title }, swatch(colour), name),
            h("td", { class: "number" }, millilitres(volumes.a[name])),
            h("td", { class: "number" }, millilitres(volumes.b[name])),
            h("td", { class: "number" }, percent(dice[name])),
          ),
        ),
      ),
    );
  }
}
