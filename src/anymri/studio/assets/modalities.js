// The four modalities, in the order of anymri, and how a subset of them is drawn.

import { h } from "./dom.js";

export const MODALITIES = ["T1", "T1c", "T2", "FLAIR"];

/** Return a row of dots, one per modality, filled for those of a subset. */
export function dots(subset) {
  const used = subset.split("+");
  return h("span", { class: "dots", "aria-hidden": "true" }, MODALITIES.map((name) => h("i", { class: used.includes(name) ? "on" : "" })));
}
