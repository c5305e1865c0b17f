// The keys of the case view, and the overlay that lists them.

import { h } from "./dom.js";

const MOVES = {
  ArrowLeft: [-1, 0, 0],
  ArrowRight: [1, 0, 0],
  ArrowUp: [0, 1, 0],
  ArrowDown: [0, -1, 0],
  PageUp: [0, 0, 1],
  PageDown: [0, 0, -1],
};
const FAR = 10;

const LISTED = [
  ["← → ↑ ↓", "Move the crosshair by one voxel in the axial plane"],
  ["Page Up, Page Down", "Next axial slice towards the head or the feet"],
  ["Shift with these", "Ten voxels at a time"],
  ["1 2 3 4", "Show T1, T1c, T2, FLAIR"],
  ["Shift + 1 2 3 4", "Switch the modality off or on for the segmentation"],
  ["m", "Show or hide the segmentation"],
  ["o", "Outline instead of filled areas"],
  ["c", "Show or hide the change against all scans"],
  ["r", "Volume rendering (3-D)"],
  ["t", "Go to the largest slice of the tumour"],
  ["d", "Distance: mark the first point, then the second"],
  ["v", "Volume of the connected piece of tumour at the crosshair"],
  ["Space", "While correcting: paint at the crosshair"],
  ["u, Ctrl + z", "Undo"],
  ["?", "This list"],
];

/** Return the action of a key press as [name, argument], or null. */
export function actionOf(event) {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") return ["undo"];
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (event.key in MOVES) {
    const steps = event.shiftKey ? FAR : 1;
    // The images have the patient's right on the left.
    const [x, y, z] = MOVES[event.key];
    return ["move", [-x * steps, y * steps, z * steps]];
  }
  const digit = /^Digit([1-4])$/.exec(event.code)?.[1];
  if (digit) return [event.shiftKey ? "switch" : "scan", Number(digit) - 1];
  const names = { m: "mask", o: "outline", c: "change", r: "render", t: "tumour", d: "distance", v: "volume", u: "undo", " ": "stamp" };
  const name = names[event.key.toLowerCase()];
  return name ? [name] : null;
}

/** Show the list of keys. */
export function showHelp() {
  const dialog = h(
    "dialog",
    { class: "help", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, "Keys"),
    h("table", {}, h("tbody", {}, LISTED.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, keys)), h("td", {}, what))))),
    h("p", {}, "Mouse: click moves the crosshair, wheel changes the slice, right button changes the contrast."),
    h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close"),
  );
  document.body.append(dialog);
  dialog.showModal();
}
