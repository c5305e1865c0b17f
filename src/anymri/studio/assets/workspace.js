// The images of a case: what is shown in one or two panes, from the choices of the panels beside them.

import { get } from "./api.js";
import { HEAT } from "./colours.js";
import { ComparePanel } from "./compare.js";
import { CorrectPanel } from "./correct.js";
import { fill, h } from "./dom.js";
import { actionOf } from "./keys.js";
import { Measurements } from "./measure.js";
import { LabelMaps } from "./labels.js";
import { MODALITIES } from "./modalities.js";
import { attempt } from "./notices.js";
import { forgetVolumes, Pane } from "./pane.js";
import { SegmentPanel } from "./segment.js";
import { tabbed } from "./tabs.js";
import { Readout, Toolbar } from "./toolbar.js";
import { ViewPanel } from "./display.js";

/** Images of a case that is ready, with the panels that control them. */
export class Workspace {
  constructor(view, data) {
    this.view = view;
    this.path = view.path;
    this.data = data;
    this.studio = view.studio;
    this.modalities = MODALITIES.filter((name) => data.volumes.some((volume) => volume.name === name && volume.kind === "scan"));
    this.base = ["T1c", "FLAIR", "T2", "T1"].find((name) => this.modalities.includes(name)) ?? data.volumes[0].name;
    this.weights = this.studio.state.weights_in_use ?? this.studio.state.weights[0]?.name ?? null;
    this.subset = this.modalities.join("+");
    this.segmentation = null;
    this.shown = data.labels.length ? `label:${data.labels[0].name}` : "none";
    this.change = true;
    this.heat = "none";
    this.beside = null;
    this.labels = new LabelMaps(this.path, data.labels);
  }

  /** Build the view, show the first scan, then segment it if there are weights. */
  async start() {
    const canvases = [0, 1].map(() => h("canvas", { tabindex: 0, role: "img", "aria-label": "Images" }));
    this.captions = canvases.map(() => h("figcaption"));
    this.figures = canvases.map((canvas, at) => h("figure", { class: "pane" }, h("div", { class: "canvas" }, canvas), this.captions[at]));
    this.readout = new Readout();
    this.panes = canvases.map((canvas, at) => new Pane(canvas, at ? () => {} : (place) => this.readout.show(place, this)));
    this.measurements = new Measurements(this);
    this.toolbar = new Toolbar(this);
    this.segmentPanel = new SegmentPanel(this);
    this.viewPanel = new ViewPanel(this);
    this.comparePanel = new ComparePanel(this);
    this.correctPanel = new CorrectPanel(this);
    this.panels = [this.segmentPanel, this.viewPanel, this.comparePanel, this.correctPanel];
    fill(
      this.view.root,
      h(
        "div",
        { class: "workspace" },
        h("section", { class: "stage", "aria-label": "Images" }, this.toolbar.element, h("div", { class: "panes" }, this.figures), this.readout.element),
        tabbed(this.panels),
      ),
    );
    this.figures[1].hidden = true;
    await this.panes[0].open();
    await this.update();
    if (this.isLeft) return this.leave();
    this.panes[0].canvas.focus();
    const hasLabels = this.data.labels.length > 0;
    if (hasLabels) this.panes[0].goToTumour();
    await attempt(() => this.segment());
    if (!hasLabels && !this.isLeft) this.panes[0].goToTumour();
  }

  /** Release the graphics of the panes. */
  leave() {
    this.isLeft = true;
    for (const pane of this.panes ?? []) pane.close();
    forgetVolumes();
  }

  /** Segment from the modalities that are switched on, and show it. */
  async segment(subset = this.subset, weights = this.weights) {
    if (!weights) return this.refreshPanels();
    const turn = (this.segmentTurn = (this.segmentTurn ?? 0) + 1);
    const isCurrent = () => turn === this.segmentTurn && !this.isLeft;
    this.subset = subset;
    this.weights = weights;
    this.isComputing = true;
    this.refreshPanels();
    try {
      const found = await this.labels.segmentation(weights, subset);
      if (!isCurrent()) return;
      this.segmentation = found;
      this.shown = "segmentation";
      if (this.beside?.volume && !found.reconstructed.some(({ name }) => name === this.beside.volume)) this.beside = null;
    } catch (error) {
      if (isCurrent()) this.returnToShown();
      throw error;
    } finally {
      if (isCurrent()) this.isComputing = false;
      if (!this.isLeft) this.refreshPanels();
    }
    if (this.beside?.reference) await this.comparePanel.compare();
    else await this.update();
    this.segmentPanel.followSubsets();
  }

  /** Choose the weights and the subset of the segmentation that is shown again, after another one failed. */
  returnToShown() {
    this.weights = this.segmentation?.weights ?? this.weights;
    this.subset = this.segmentation?.subset ?? this.subset;
    this.segmentPanel.followSubsets();
  }

  /** Return all volumes that can be shown: scans, then reconstructed ones. */
  volumes() {
    return [...this.data.volumes, ...(this.segmentation?.reconstructed ?? [])];
  }

  volume(name, kind = "scan") {
    const all = this.volumes();
    return all.find((volume) => volume.name === name && volume.kind === kind) ?? all.find((volume) => volume.name === name);
  }

  heatMap() {
    if (this.heat === "none" || !this.segmentation) return null;
    const isUncertainty = this.heat === "uncertainty";
    const url = isUncertainty ? this.segmentation.uncertainty_url : this.segmentation.probability_urls?.[this.heat];
    return url ? { url, window: [0.02, 1], heat: isUncertainty ? HEAT.uncertainty : HEAT.probability } : null;
  }

  /** Draw all panes anew from the current choices. */
  async update() {
    if (this.isLeft) return;
    const turn = (this.updateTurn = (this.updateTurn ?? 0) + 1);
    const isCurrent = () => turn === this.updateTurn && !this.isLeft;
    const [left, right] = this.panes;
    if (this.correcting) {
      if (await left.show(this.volume(this.base), this.heatMap())) this.describe();
      return this.refreshPanels();
    }
    const labels = await this.leftLabels();
    if (!isCurrent() || !(await left.show(this.volume(this.base), this.heatMap())) || !isCurrent()) return;
    left.drawLabels(labels);
    if (this.beside && !right.viewer) {
      this.figures[1].hidden = false;
      await right.open();
    }
    this.figures[1].hidden = !this.beside;
    if (this.beside) {
      const shown = this.beside.volume ? this.volume(this.beside.volume, "reconstructed") : this.volume(this.base);
      const other = await this.rightLabels(labels);
      if (!(await right.show(shown)) || !isCurrent()) return;
      right.drawLabels(other);
    }
    if (right.viewer) {
      left.link(this.beside ? right : null);
      right.link(this.beside ? left : null);
    }
    this.describe();
    this.refreshPanels();
  }

  async leftLabels() {
    const reference = this.shownReference();
    const { beside } = this;
    if (!reference) return null;
    if (beside?.reference) {
      return beside.showDisagreement ? this.labels.withDisagreement(reference, beside.disagreement, "left") : this.labels.of(reference);
    }
    return reference.weights && this.change && !this.isFull() ? this.labels.withChange(reference) : this.labels.of(reference);
  }

  async rightLabels(left) {
    const { reference, disagreement, showDisagreement } = this.beside;
    if (!reference) return left;
    return showDisagreement ? this.labels.withDisagreement(reference, disagreement, "right") : this.labels.of(reference);
  }

  /** Return whether the subset has all scans of the case. */
  isFull() {
    return this.subset === this.modalities.join("+");
  }

  /** Return the reference of the label map that is shown in the left pane, or null. */
  shownReference() {
    if (this.beside?.reference) return this.beside.left;
    if (this.shown.startsWith("label:")) return { label: this.shown.slice(6) };
    if (this.shown !== "segmentation" || !this.segmentation) return null;
    return { weights: this.segmentation.weights, subset: this.segmentation.subset };
  }

  describe() {
    const texts = [`${this.base}, ${this.correcting ? "correction by hand" : this.labels.inWords(this.shownReference())}`];
    if (this.beside) {
      texts.push(this.beside.volume ? `${this.beside.volume} reconstructed` : `${this.base}, ${this.labels.inWords(this.beside.reference)}`);
    }
    texts.forEach((text, at) => {
      this.captions[at].textContent = text;
      this.panes[at].canvas.setAttribute("aria-label", `Images: ${text}`);
    });
  }

  refreshPanels() {
    for (const part of [this.toolbar, this.readout, ...this.panels]) part.refresh?.(this);
  }

  /** Apply a change of opacity, outline or visibility to all panes. */
  restyle(change) {
    for (const pane of this.panes) {
      Object.assign(pane, change);
      pane.refresh();
    }
    this.toolbar.refresh();
    this.viewPanel.refresh();
  }

  /** Arrange the planes of all panes; see `Pane.arrange`. */
  arrange({ plane, is3d }) {
    for (const pane of this.panes) {
      pane.plane = plane ?? pane.plane;
      pane.is3d = is3d ?? pane.is3d;
      if (pane.viewer) pane.arrange();
    }
  }

  /** Read what the server knows about the case again, as after a correction. */
  async reload() {
    this.data = await get(this.path);
    this.labels.labels = this.data.labels;
  }

  /** Act on a key of the page. */
  key(event) {
    const action = actionOf(event);
    if (!action || !this.panes?.[0].viewer?.volumes.length) return;
    const target = event.target;
    const isOnImage = target.tagName === "CANVAS" || target === document.body || target.id === "content";
    const [name, argument] = action;
    // Arrows and the space bar belong to tabs and buttons that have the focus.
    if ((name === "move" || name === "stamp") && !isOnImage) return;
    event.preventDefault();
    const pane = this.panes[0];
    const actions = {
      move: () => pane.move(...argument),
      scan: () => this.modalities.includes(MODALITIES[argument]) && this.toolbar.chooseScan(MODALITIES[argument]),
      switch: () => this.segmentPanel.toggle(MODALITIES[argument]),
      mask: () => this.restyle({ visible: !pane.visible }),
      outline: () => this.restyle({ outline: !pane.outline }),
      change: () => this.segmentPanel.toggleChange(),
      render: () => this.toolbar.toggleRender(),
      tumour: () => pane.goToTumour(),
      distance: () => this.measurements.mark(),
      volume: () => this.measurements.piece(),
      stamp: () => this.correctPanel.stamp(),
      undo: () => this.undo(),
    };
    attempt(async () => actions[name]());
  }

  /** Return whether a label map was changed by hand and not saved. */
  isUnsaved() {
    return Boolean(this.correcting) && this.correctPanel.steps.length > 0;
  }

  undo() {
    if (this.correcting) this.correctPanel.undo();
    else this.measurements.undo();
  }
}
