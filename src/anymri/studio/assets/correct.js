// Panel that corrects a label map by hand: paint, erase, undo, save.

import { post } from "./api.js";
import { CLASSES } from "./colours.js";
import { fill, h, slider } from "./dom.js";
import { attempt } from "./notices.js";
import { swatch } from "./toolbar.js";

const AUTHOR = "anymri-author";
const UNDO_STEPS = 50;

/** Panel with the brush. */
export class CorrectPanel {
  title = "Correct";

  constructor(workspace) {
    this.workspace = workspace;
    this.value = 3;
    this.size = 3;
    this.steps = [];
    this.element = h("div", { class: "panel" });
    this.status = h("p", { class: "quiet", role: "status" });
    this.author = h("input", { type: "text", autocomplete: "name", maxlength: 100, required: true });
    this.author.value = localStorage.getItem(AUTHOR) ?? "";
    this.draw();
  }

  draw() {
    const isOn = this.workspace.correcting;
    const brush = (value, title, colour) => {
      const button = h("input", { type: "radio", name: "brush", value, onchange: () => this.use({ value }) });
      button.checked = value === this.value;
      return h("label", { class: "check" }, button, colour ? swatch(colour) : null, h("span", {}, title));
    };
    const start = h("p", {}, "Correct the label map that is shown, then save it beside the case. The original stays as it is.");
    this.undoButton = h("button", { type: "button", disabled: !this.steps.length, onclick: () => this.undo() }, "Undo ", h("kbd", {}, "u"));
    fill(
      this.element,
      isOn
        ? [
            h("fieldset", {}, h("legend", {}, "Brush"), CLASSES.map(({ value, name, title, colour }) => brush(value, `${name}: ${title}`, colour)), brush(0, "Erase")),
            slider("Brush size", { min: 1, max: 25, step: 2, value: this.size, unit: " voxels" }, (size) => this.use({ size })),
            h("p", { class: "quiet" }, "Drag on a plane, or press space to paint at the crosshair."),
            h("div", { class: "buttons" }, this.undoButton),
            h("label", { class: "field" }, h("span", {}, "Author"), this.author),
            h(
              "div",
              { class: "buttons" },
              h("button", { type: "button", class: "primary", onclick: () => attempt(() => this.save()) }, "Save"),
              h("button", { type: "button", onclick: () => attempt(() => this.stop()) }, "Discard"),
            ),
          ]
        : [start, h("button", { type: "button", class: "primary", onclick: () => attempt(() => this.start()) }, "Correct by hand")],
      this.status,
    );
  }

  /** Begin with the label map that is shown, without marks of differences. */
  async start() {
    const { workspace } = this;
    const [pane] = workspace.panes;
    workspace.beside = null;
    this.basedOn = workspace.shownReference();
    await workspace.update();
    pane.drawLabels(this.basedOn ? await workspace.labels.of(this.basedOn) : null);
    // What is painted from here on is not the label map that was drawn.
    pane.drawn = null;
    workspace.correcting = true;
    this.steps = [];
    this.before = pane.viewer.drawBitmap.slice();
    pane.viewer.onDrawingChanged = (action) => action === "draw" && this.keep();
    workspace.restyle({ visible: true });
    this.status.textContent = "";
    this.use({});
    this.draw();
    await workspace.update();
  }

  /** Set the class and the size of the brush. */
  use({ value = this.value, size = this.size }) {
    this.value = value;
    this.size = size;
    if (this.workspace.correcting) this.workspace.panes[0].tool("pen", { value, size });
  }

  /** Paint a ball of the brush's size at the crosshair. */
  stamp() {
    if (!this.workspace.correcting) return;
    const [pane] = this.workspace.panes;
    const [nx, ny, nz] = pane.grid.dims;
    const radius = this.size / 2;
    const reach = Math.floor(radius);
    const [x, y, z] = pane.voxel();
    for (let k = Math.max(0, z - reach); k <= Math.min(nz - 1, z + reach); k++) {
      for (let j = Math.max(0, y - reach); j <= Math.min(ny - 1, y + reach); j++) {
        for (let i = Math.max(0, x - reach); i <= Math.min(nx - 1, x + reach); i++) {
          if (Math.hypot(i - x, j - y, k - z) <= radius) pane.viewer.drawBitmap[pane.index([i, j, k])] = this.value;
        }
      }
    }
    pane.redraw();
    this.keep();
  }

  /** Keep the last change as a step that can be undone. */
  keep() {
    const drawn = this.workspace.panes[0].viewer.drawBitmap;
    const places = [];
    for (let at = 0; at < drawn.length; at++) if (drawn[at] !== this.before[at]) places.push(at);
    if (!places.length) return;
    this.steps.push({ places: Uint32Array.from(places), values: Uint8Array.from(places, (at) => this.before[at]) });
    if (this.steps.length > UNDO_STEPS) this.steps.shift();
    for (const at of places) this.before[at] = drawn[at];
    this.status.textContent = `${places.length} voxels changed.`;
    this.undoButton.disabled = false;
  }

  undo() {
    const step = this.steps.pop();
    if (!step) return;
    const [pane] = this.workspace.panes;
    step.places.forEach((at, number) => {
      pane.viewer.drawBitmap[at] = step.values[number];
      this.before[at] = step.values[number];
    });
    pane.redraw();
    this.status.textContent = `${step.places.length} voxels restored.`;
    this.undoButton.disabled = !this.steps.length;
  }

  async save() {
    const { workspace } = this;
    const author = this.author.value.trim();
    if (!author) {
      this.status.textContent = "Write who corrected the label map, then save.";
      this.author.focus();
      return;
    }
    localStorage.setItem(AUTHOR, author);
    const labels = workspace.panes[0].drawnLabels();
    // Headers are ASCII: names of any script are encoded.
    const headers = { "X-Author": encodeURIComponent(author), "X-Based-On": encodeURIComponent(JSON.stringify(this.basedOn)), "Content-Type": "application/octet-stream" };
    const saved = await post(`${workspace.path}/correction`, labels, headers);
    await workspace.reload();
    workspace.shown = `label:${saved.label.name}`;
    await this.stop();
    this.status.textContent = `Saved: ${saved.changed_voxels} voxels changed, in ${saved.file}`;
  }

  /** End the correction and show the label map that was chosen. */
  async stop() {
    const { workspace } = this;
    workspace.correcting = false;
    workspace.panes[0].tool("crosshair");
    workspace.panes[0].viewer.onDrawingChanged = () => {};
    this.steps = [];
    this.draw();
    await workspace.update();
  }
}
