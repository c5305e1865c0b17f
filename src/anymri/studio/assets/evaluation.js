// View of an evaluation: mean metric per subset and region, and a plot of all cases.

import { get, post } from "./api.js";
import { fill, h, select, svg } from "./dom.js";
import { dots, MODALITIES } from "./modalities.js";
import { attempt } from "./notices.js";

// Units of the drawing, which is scaled to the page.
const WIDTH = 760;
const HEIGHT = 320;
const LEFT = 52;
const BOTTOM = 72;
const LINE = 15;

/** View of an evaluation; a row of the table or a dot of the plot opens a case. */
export class EvaluationView {
  constructor(studio, entry, root) {
    this.studio = studio;
    this.entry = entry;
    this.root = root;
    this.path = `/api/evaluations/${encodeURIComponent(entry.id)}`;
    this.region = "WT";
    this.metric = "dice";
  }

  async start() {
    this.data = await get(this.path);
    this.regions = Object.keys(Object.values(this.data.table)[0] ?? {});
    if (!this.regions.includes(this.region)) [this.region] = this.regions;
    this.subset = this.data.subsets.at(-1);
    if (!(this.metric in this.data.metrics)) [this.metric] = Object.keys(this.data.metrics);
    this.draw();
  }

  mayLeave() {
    return true;
  }

  leave() {}

  draw() {
    const { data } = this;
    fill(
      this.root,
      h(
        "section",
        { class: "evaluation", "aria-labelledby": "evaluation-title" },
        h("h2", { id: "evaluation-title" }, data.name),
        h("p", { class: "quiet" }, [data.system, data.weights].filter(Boolean).join(", ")),
        h(
          "div",
          { class: "fields" },
          select("Metric", Object.keys(data.metrics).map((name) => [name, name]), this.metric, (name) => this.set("metric", name)),
          select("Region", this.regions.map((name) => [name, name]), this.region, (name) => this.set("region", name)),
          select("Subset of the table of cases", data.subsets.map((name) => [name, name]), this.subset, (name) => this.set("subset", name)),
        ),
        data.openable ? null : h("p", { class: "notice-inline" }, "The scans of this evaluation are not where they were, so that its cases cannot be opened. Move them back, or evaluate again."),
        h("div", { class: "columns" }, this.means(), h("div", {}, this.plot(), this.cases())),
        data.notes?.length ? h("details", {}, h("summary", {}, "How the values were computed"), h("ul", {}, data.notes.map((note) => h("li", {}, note)))) : null,
      ),
    );
  }

  set(name, value) {
    this[name] = value;
    this.draw();
  }

  means() {
    const { subsets, table } = this.data;
    const row = (subset) =>
      h(
        "tr",
        { class: subset === this.subset ? "current" : "" },
        h("th", { scope: "row" }, h("button", { type: "button", class: "link", "aria-label": `Cases of ${subset}`, onclick: () => this.set("subset", subset) }, dots(subset), subset)),
        this.regions.map((region) => h("td", { class: "number" }, this.printed(table[subset]?.[region]?.[this.metric]))),
      );
    return h(
      "table",
      { class: "means" },
      h("caption", {}, `Mean ${this.title()}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Subset"), this.regions.map((region) => h("th", { scope: "col" }, region)))),
      h("tbody", {}, subsets.map(row)),
    );
  }

  plot() {
    const { subsets, rows } = this.data;
    const step = (WIDTH - LEFT - 10) / subsets.length;
    const most = this.isShare() ? 1 : Math.max(...rows.map((row) => row[this.metric] ?? 0), 1);
    const y = (value) => 10 + (1 - value / most) * (HEIGHT - BOTTOM - 10);
    const lines = [0, 0.25, 0.5, 0.75, 1].map((part) => [
      svg("line", { x1: LEFT, x2: WIDTH - 10, y1: y(part * most), y2: y(part * most), class: "rule" }),
      svg("text", { x: LEFT - 8, y: y(part * most) + 4, "text-anchor": "end" }, (part * most * (this.isShare() ? 100 : 1)).toFixed(0)),
    ]);
    const columns = subsets.map((subset, at) => {
      const x = LEFT + step * (at + 0.5);
      const values = rows.filter((row) => row.subset === subset && row.region === this.region && Number.isFinite(row[this.metric]));
      const marks = MODALITIES.map((name, line) =>
        svg("circle", { cx: x, cy: HEIGHT - BOTTOM + 16 + LINE * line, r: 4, class: subset.split("+").includes(name) ? "used" : "unused" }),
      );
      return [marks, values.map((row, number) => this.dot(row, x + ((number % 5) - 2) * (step / 9), y(row[this.metric])))];
    });
    const names = MODALITIES.map((name, line) => svg("text", { x: LEFT - 8, y: HEIGHT - BOTTOM + 20 + LINE * line, "text-anchor": "end" }, name));
    return h(
      "figure",
      { class: "plot" },
      svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": `${this.metric} of ${this.region} of each case, per subset` }, lines, names, columns),
      h("figcaption", { class: "quiet" }, `${this.title()} of ${this.region}, one dot per case and subset.${this.data.openable ? " A dot opens its case." : ""}`),
    );
  }

  dot(row, x, y) {
    const text = `${row.case}, ${row.subset}: ${this.printed(row[this.metric])}`;
    const act = this.data.openable ? { onclick: () => this.open(row.case), class: "dot openable" } : { class: "dot" };
    // The table of cases is the way of the keyboard: hundreds of dots would be as many stops.
    return svg("circle", { cx: x, cy: y, r: 4.5, ...act, "aria-hidden": "true" }, svg("title", {}, text));
  }

  cases() {
    const rows = this.data.rows.filter((row) => row.subset === this.subset);
    const names = [...new Set(rows.map((row) => row.case))];
    const value = (name, region) => rows.find((row) => row.case === name && row.region === region)?.[this.metric];
    const row = (name) =>
      h(
        "tr",
        this.data.openable ? { class: "openable", onclick: () => this.open(name) } : {},
        h("th", { scope: "row" }, this.data.openable ? h("button", { type: "button", class: "link", onclick: (event) => (event.stopPropagation(), this.open(name)) }, name) : name),
        this.regions.map((region) => h("td", { class: "number" }, this.printed(value(name, region)))),
      );
    return h(
      "div",
      { class: "scroll cases" },
      h(
        "table",
        {},
        h("caption", {}, `Cases from ${this.subset}, ${this.title()}`),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Case"), this.regions.map((region) => h("th", { scope: "col" }, region)))),
        h("tbody", {}, names.map(row)),
      ),
    );
  }

  isShare() {
    return this.data.metrics[this.metric] === "fraction";
  }

  /** Return the name of the metric with its unit, as printed. */
  title() {
    return `${this.metric} (${this.isShare() ? "percent" : this.data.metrics[this.metric]})`;
  }

  printed(value) {
    return Number.isFinite(value) ? ((this.isShare() ? 100 : 1) * value).toFixed(1) : "–";
  }

  open(name) {
    attempt(async () => {
      const { entry } = await post(`${this.path}/open`, { case: name });
      await this.studio.reload();
      await this.studio.open(entry);
    });
  }
}
