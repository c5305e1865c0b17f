// Panel of the view: which label map, heat map and reconstructed scan are shown, measurements, and files to take away.

import { checkbox, fill, h, select, slider } from "./dom.js";
import { attempt } from "./notices.js";

const HEATS = [
  ["none", "None"],
  ["WT", "Probability of whole tumour"],
  ["TC", "Probability of tumour core"],
  ["ET", "Probability of enhancing tumour"],
  ["uncertainty", "Uncertainty"],
];

const PLANES = [
  ["three", "Axial, coronal, sagittal"],
  ["axial", "Axial"],
  ["coronal", "Coronal"],
  ["sagittal", "Sagittal"],
];

/** Panel with the choices of what is drawn. */
export class ViewPanel {
  title = "View";

  constructor(workspace) {
    this.workspace = workspace;
    this.choices = h("div", { class: "stack" });
    this.files = h("div", { class: "stack" });
    this.scale = h("div", { class: "scale", hidden: true }, h("span", {}, "0"), h("span", { class: "ramp" }), h("span", {}, "1"));
    this.heatOpacity = slider("Heat opacity", { min: 0, max: 100, step: 5, value: 60, unit: " %" }, (value) => workspace.restyle({ heatOpacity: value / 100 }));
    this.element = h(
      "div",
      { class: "panel" },
      select("Planes", PLANES, "three", (plane) => workspace.arrange({ plane })),
      this.choices,
      this.heatOpacity,
      this.scale,
      h("h3", {}, "Measure"),
      workspace.measurements.element,
      h("h3", {}, "Take away"),
      this.files,
    );
  }

  set(name, value) {
    this.workspace[name] = value;
    attempt(() => this.workspace.update());
  }

  refresh() {
    const { workspace } = this;
    const { labels } = workspace.data;
    const shown = [
      ...(workspace.weights ? [["segmentation", "Segmentation"]] : []),
      ...labels.map(({ name, title }) => [`label:${name}`, title]),
      ["none", "None"],
    ];
    const reconstructed = workspace.segmentation?.reconstructed ?? [];
    fill(
      this.choices,
      select("Label map", shown, workspace.shown, (value) => this.set("shown", value)),
      select("Heat map", HEATS, workspace.heat, (value) => this.set("heat", value), { disabled: !workspace.segmentation }),
      reconstructed.length
        ? select(
            "Beside",
            [["", "Nothing"], ...reconstructed.map(({ name }) => [name, `${name} reconstructed`])],
            workspace.beside?.volume ?? "",
            (name) => this.set("beside", name ? { volume: name } : null),
          )
        : h("p", { class: "quiet" }, "These weights do not reconstruct scans."),
      checkbox("Draw the change against all scans", workspace.change, (value) => this.set("change", value)),
    );
    const isHeat = workspace.heat !== "none";
    this.scale.hidden = !isHeat;
    this.heatOpacity.hidden = !isHeat;
    this.scale.className = `scale ${workspace.heat === "uncertainty" ? "inferno" : "viridis"}`;
    fill(this.files, this.links());
  }

  links() {
    const { segmentation, path, data } = this.workspace;
    if (!segmentation) return h("p", { class: "quiet" }, "Segment the case first.");
    const query = new URLSearchParams({ weights: segmentation.weights, subset: segmentation.subset });
    return [
      h("a", { class: "button", href: `${path}/result.zip?${query}`, download: "" }, `Result from ${segmentation.subset} (zip)`),
      h("a", { class: "button", href: data.report ?? `${path}/report.html?${query}`, target: "_blank", rel: "noopener noreferrer" }, "Report"),
    ];
  }
}
