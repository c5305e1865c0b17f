// What went wrong and what to do, in words, and the steps that run.

import { byId, fill, h } from "./dom.js";
import { finished, post, StudioError } from "./api.js";

/** Show an error until the user closes it. */
export function showError(error) {
  if (error?.name === "AbortError" || error?.status === 499) return;
  const isOurs = error instanceof StudioError;
  const what = isOurs ? error.what : `The page could not go on: ${error?.message ?? error}.`;
  const fix = isOurs ? error.fix : "Open the case again; if it stays so, reload the page.";
  const notice = h(
    "div",
    { class: "notice" },
    h("p", {}, h("strong", {}, what)),
    h("p", {}, fix),
    h("button", { type: "button", class: "close", "aria-label": "Close this message", onclick: () => notice.remove() }, "×"),
  );
  const all = byId("notices");
  for (const other of all.children) if (other.textContent === notice.textContent) other.remove();
  all.append(notice);
}

/** Remove all error messages. */
export const clearErrors = () => fill(byId("notices"));

/** Run an action and show its error, if any; returns its result, or null after an error. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    showError(error);
    return null;
  }
}

/** Start a job of the server, show its progress with a button that cancels it, and return its result. */
export async function runJob(title, path, value = {}) {
  const step = h("span", { class: "step" }, "starting");
  const bar = h("progress", { "aria-label": title });
  const cancel = h("button", { type: "button", disabled: true }, "Cancel");
  const task = h("div", { class: "task" }, h("strong", {}, title), step, bar, cancel);
  byId("tasks").append(task);
  try {
    const job = await post(path, value);
    cancel.disabled = false;
    cancel.addEventListener("click", () => {
      cancel.disabled = true;
      attempt(() => post(`/api/jobs/${encodeURIComponent(job.id)}/cancel`));
    });
    return await finished(job, ({ step: name, done, of }) => {
      step.textContent = of ? `${name}, ${done} of ${of}` : name || "starting";
      if (of) {
        bar.max = of;
        bar.value = done;
      }
    });
  } finally {
    task.remove();
  }
}
