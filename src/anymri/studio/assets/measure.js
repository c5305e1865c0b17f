// Distances and volumes that the user measures; the last one can be taken back.

import { ADDED } from "./colours.js";
import { fill, h } from "./dom.js";

// NCR, ED and ET, and what a subset added to them.
const TUMOUR = [1, 2, 3, ADDED];

/** Measurements of a case, with the list of them. */
export class Measurements {
  constructor(workspace) {
    this.workspace = workspace;
    this.first = null;
    this.taken = [];
    this.list = h("ol", { class: "measurements", "aria-live": "polite" });
    this.element = h(
      "div",
      { class: "stack" },
      h("p", { class: "quiet" }, "Distance: press d at both ends, or choose Measure and drag. Volume: press v on a piece of tumour."),
      this.list,
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => this.mark() }, "Mark point ", h("kbd", {}, "d")),
        h("button", { type: "button", onclick: () => this.piece() }, "Volume here ", h("kbd", {}, "v")),
        h("button", { type: "button", onclick: () => this.undo() }, "Undo ", h("kbd", {}, "u")),
      ),
    );
  }

  /** Mark the crosshair as the first point of a distance, or measure from the first to here. */
  mark() {
    const voxel = this.pane.voxel();
    if (!this.first) {
      this.first = voxel;
      this.add("First point is marked; move the crosshair and press d again.");
      return;
    }
    const { spacing } = this.pane.grid;
    const distance = Math.hypot(...voxel.map((value, axis) => (value - this.first[axis]) * spacing[axis]));
    this.taken.pop();
    this.first = null;
    this.add(`Distance ${distance.toFixed(1)} mm`);
  }

  /** Measure the connected piece of tumour that contains the crosshair. */
  piece() {
    const drawn = this.pane.viewer.drawBitmap;
    const start = this.pane.index(this.pane.voxel());
    if (!TUMOUR.includes(drawn[start])) {
      this.add("The crosshair is not on a tumour.");
      return;
    }
    const { dims, spacing } = this.pane.grid;
    const voxels = countConnected(drawn, dims, start);
    const ml = (voxels * spacing[0] * spacing[1] * spacing[2]) / 1000;
    this.add(`Connected piece of tumour: ${ml.toFixed(2)} mL`);
  }

  /** Take the last measurement back. */
  undo() {
    if (!this.taken.length) {
      this.pane.viewer.clearMeasurements();
      return;
    }
    this.taken.pop();
    this.first = null;
    this.refresh();
  }

  get pane() {
    return this.workspace.panes[0];
  }

  add(text) {
    this.taken.push(text);
    this.workspace.readout.say(text);
    this.refresh();
  }

  refresh() {
    fill(this.list, this.taken.map((text) => h("li", {}, text)));
  }
}

/** Return how many voxels of tumour are connected by faces with the voxel `start`. */
function countConnected(labels, [nx, ny, nz], start) {
  const seen = new Uint8Array(labels.length);
  const open = [start];
  seen[start] = 1;
  let count = 0;
  const visit = (at) => {
    if (!seen[at] && TUMOUR.includes(labels[at])) {
      seen[at] = 1;
      open.push(at);
    }
  };
  while (open.length) {
    const at = open.pop();
    count++;
    const x = at % nx;
    const y = Math.floor(at / nx) % ny;
    const z = Math.floor(at / (nx * ny));
    if (x > 0) visit(at - 1);
    if (x < nx - 1) visit(at + 1);
    if (y > 0) visit(at - nx);
    if (y < ny - 1) visit(at + nx);
    if (z > 0) visit(at - nx * ny);
    if (z < nz - 1) visit(at + nx * ny);
  }
  return count;
}
