// Files of a case: dropped on the page, or chosen.

import { post } from "./api.js";
import { byId, h } from "./dom.js";
import { attempt, clearErrors } from "./notices.js";

/** Let the user choose files or a folder, and open them as a case. */
export function chooseFiles(studio, isFolder) {
  const input = h("input", { type: "file", multiple: true, webkitdirectory: isFolder, hidden: true });
  input.addEventListener("change", () => {
    const files = Array.from(input.files, (file) => [file.webkitRelativePath || file.name, file]);
    input.remove();
    attempt(() => upload(studio, files));
  });
  input.addEventListener("cancel", () => input.remove());
  document.body.append(input);
  input.click();
}

/** Open what is dropped anywhere on the page. */
export function listenForDrops(studio) {
  const veil = byId("drop");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil.hidden = true;
    // Entries are gone once the event has been handled.
    const roots = Array.from(event.dataTransfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const loose = Array.from(event.dataTransfer.files, (file) => [file.name, file]);
    attempt(async () => {
      const found = roots.length ? (await Promise.all(roots.map((root) => filesOf(root)))).flat() : loose;
      await upload(studio, found);
    });
  });
}

/** Send the files and open the case that they make. */
async function upload(studio, files) {
  if (!files.length) return;
  clearErrors();
  const form = new FormData();
  for (const [path, file] of files) form.append("files", file, path);
  const { entry } = await sending(files.length, () => post("/api/uploads", form));
  await studio.reload();
  await studio.open(entry);
}

async function sending(count, send) {
  const task = h("div", { class: "task" }, h("strong", {}, "Reading files"), h("span", { class: "step" }, `${count}`), h("progress", { "aria-label": "Reading files" }));
  byId("tasks").append(task);
  try {
    return await send();
  } finally {
    task.remove();
  }
}

/** Return [path, file] of all files under a dropped file or folder. */
async function filesOf(entry, folder = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[folder + entry.name, file]];
  }
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    // A reader returns a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    inside.push(...some);
  }
  return (await Promise.all(inside.map((child) => filesOf(child, `${folder}${entry.name}/`)))).flat();
}
