// Controls above the images, and what is at the crosshair below them.

import { CLASSES, DIFFERENCES } from "./colours.js";
import { fill, h, slider } from "./dom.js";
import { MODALITIES } from "./modalities.js";
import { attempt } from "./notices.js";

/** Bar with the scans, the label overlay and the arrangement of the planes. */
export class Toolbar {
  constructor(workspace) {
    this.workspace = workspace;
    this.is3d = false;
    this.isMeasuring = false;
    this.scans = MODALITIES.map((name, at) =>
      h(
        "button",
        { type: "button", disabled: !workspace.modalities.includes(name), title: workspace.modalities.includes(name) ? `Show ${name}` : `This case has no ${name}`, onclick: () => this.chooseScan(name) },
        name,
        h("kbd", {}, String(at + 1)),
      ),
    );
    this.mask = toggle("Mask", "m", () => workspace.restyle({ visible: !workspace.panes[0].visible }));
    this.outline = toggle("Outline", "o", () => workspace.restyle({ outline: !workspace.panes[0].outline }));
    this.render = toggle("3-D", "r", () => this.toggleRender());
    this.measure = toggle("Measure", "", () => this.toggleMeasure());
    const opacity = slider("Opacity", { min: 0, max: 100, step: 5, value: 45, unit: " %" }, (percent) => workspace.restyle({ opacity: percent / 100 }));
    this.element = h(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "Images" },
      h("div", { class: "segmented", role: "group", "aria-label": "Scan" }, this.scans),
      h("div", { class: "segmented", role: "group", "aria-label": "Overlay" }, this.mask, this.outline),
      opacity,
      h("div", { class: "segmented", role: "group", "aria-label": "View" }, this.render, this.measure),
    );
  }

  /** Show another scan under the same overlay. */
  chooseScan(name) {
    this.workspace.base = name;
    attempt(() => this.workspace.update());
    this.refresh();
  }

  toggleRender() {
    this.is3d = !this.is3d;
    this.workspace.arrange({ is3d: this.is3d });
    this.refresh();
  }

  toggleMeasure() {
    this.isMeasuring = !this.isMeasuring;
    if (this.isMeasuring) this.workspace.panes[0].tool("measure");
    else if (this.workspace.correcting) this.workspace.correctPanel.use({});
    else this.workspace.panes[0].tool("crosshair");
    this.refresh();
  }

  refresh() {
    const { base, panes } = this.workspace;
    this.scans.forEach((button, at) => button.setAttribute("aria-pressed", String(MODALITIES[at] === base)));
    this.mask.setAttribute("aria-pressed", String(panes[0].visible));
    this.outline.setAttribute("aria-pressed", String(panes[0].outline));
    this.render.setAttribute("aria-pressed", String(this.is3d));
    this.measure.setAttribute("aria-pressed", String(this.isMeasuring));
  }
}

/** Line with the place, the intensity and the class at the crosshair, and the colours of the overlay. */
export class Readout {
  constructor() {
    this.place = h("span", { class: "place" });
    this.legend = h("ul", { class: "legend", "aria-label": "Colours" });
    this.element = h("div", { class: "readout" }, this.place, this.legend);
  }

  show({ mm, values, label }, workspace) {
    const [x, y, z] = mm.map((value) => value.toFixed(0));
    const found = CLASSES.find(({ value }) => value === label) ?? DIFFERENCES[label];
    const intensity = Number((values[0] ?? 0).toPrecision(4));
    this.place.textContent = `${x}, ${y}, ${z} mm; ${workspace.base} ${intensity}; ${found?.name ?? found?.title ?? "no tumour"}`;
    this.place.title = found?.title ?? "";
  }

  /** Show a message in place of the crosshair's place, until that moves. */
  say(text) {
    this.place.textContent = text;
  }

  refresh(workspace) {
    const { beside, change } = workspace;
    const isChange = workspace.shown === "segmentation" && change && !workspace.isFull() && !beside?.reference && !workspace.correcting;
    const isDisagreement = Boolean(beside?.reference && beside.showDisagreement);
    const entries = [
      ...CLASSES.filter(({ name }) => name !== "RC" || workspace.panes[0].hasCavity),
      ...(isChange ? [DIFFERENCES[5], DIFFERENCES[6]] : []),
      ...(isDisagreement ? [DIFFERENCES[7], DIFFERENCES[8]] : []),
    ];
    fill(this.legend, entries.map(({ name, title, colour }) => h("li", { title }, swatch(colour), name ?? title)));
  }
}

/** Return a small square of a colour. */
export function swatch(colour) {
  const square = h("span", { class: "swatch", "aria-hidden": "true" });
  square.style.backgroundColor = colour;
  return square;
}

function toggle(text, key, onclick) {
  return h("button", { type: "button", "aria-pressed": "false", title: key ? `Key ${key}` : null, onclick }, text);
}
