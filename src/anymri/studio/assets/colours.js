// Colours of Okabe and Ito (2008): distinct for the colour-blind, and visible on grey. Those of regions are anymri's.

export const REGIONS = [
  { name: "WT", title: "Whole tumour", colour: "#56B4E9" },
  { name: "TC", title: "Tumour core", colour: "#F0E442" },
  { name: "ET", title: "Enhancing tumour", colour: "#D55E00" },
];

// Values of the drawn map: the classes of anymri, then what differs between two label maps.
export const CLASSES = [
  { value: 1, name: "NCR", title: "Necrosis and non-enhancing core", colour: "#F0E442" },
  { value: 2, name: "ED", title: "Oedema", colour: "#56B4E9" },
  { value: 3, name: "ET", title: "Enhancing tumour", colour: "#D55E00" },
  { value: 4, name: "RC", title: "Resection cavity", colour: "#009E73" },
];
export const ADDED = 5;
export const LOST = 6;
export const ONLY_LEFT = 7;
export const ONLY_RIGHT = 8;
export const DIFFERENCES = {
  [ADDED]: { title: "Added", colour: "#FFFFFF" },
  [LOST]: { title: "Lost", colour: "#CC79A7" },
  [ONLY_LEFT]: { title: "Only left", colour: "#FFFFFF" },
  [ONLY_RIGHT]: { title: "Only right", colour: "#CC79A7" },
};

// Colour maps of the viewer for heat overlays, both even in lightness.
export const HEAT = { probability: "viridis", uncertainty: "inferno" };

/** Return the colour table of the drawn map, as the viewer takes it. */
export function drawingColours() {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["background"] };
  const all = { ...Object.fromEntries(CLASSES.map((entry) => [entry.value, entry])), ...DIFFERENCES };
  for (const [value, { title, colour }] of Object.entries(all)) {
    table.R.push(parseInt(colour.slice(1, 3), 16));
    table.G.push(parseInt(colour.slice(3, 5), 16));
    table.B.push(parseInt(colour.slice(5, 7), 16));
    table.A.push(255);
    table.I.push(Number(value));
    table.labels.push(title);
  }
  return table;
}
