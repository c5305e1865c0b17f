// View of a case: first the assignment of its scans, then its images.

import { get, StudioError } from "./api.js";
import { fill, h } from "./dom.js";
import { runJob, showError } from "./notices.js";
import { showProposal } from "./proposal.js";
import { Workspace } from "./workspace.js";

/** View of a case; `key` receives the keys of the page. */
export class CaseView {
  constructor(studio, entry, root) {
    this.studio = studio;
    this.entry = entry;
    this.root = root;
    this.path = `/api/cases/${encodeURIComponent(entry.id)}`;
    this.workspace = null;
    this.isLeft = false;
  }

  /** Show the case in its state: read, examined, or neither. */
  async start() {
    if (this.entry.state === "ready") return this.showImages();
    fill(this.root, h("p", { class: "quiet centred" }, "Reading the scans."));
    try {
      if (this.entry.state !== "proposed") await runJob("Examining the scans", `${this.path}/examine`);
      const data = await get(this.path);
      if (this.isLeft) return;
      this.entry = data.entry;
      await this.studio.reload();
      const { what, fix } = data.entry.error ?? {};
      if (data.entry.state === "failed") throw new StudioError(what, fix);
      showProposal(this, data);
    } catch (error) {
      if (!this.isLeft) this.showFailure(error, "Examine again");
    }
  }

  /** Register, mask and resample as needed, then show the images. */
  async prepare() {
    try {
      await runJob("Preparing the scans", `${this.path}/prepare`);
      this.entry.state = "ready";
      await this.studio.reload();
      if (!this.isLeft) await this.showImages();
    } catch (error) {
      showError(error);
    }
  }

  async showImages() {
    try {
      const data = await get(this.path);
      if (this.isLeft) return;
      this.workspace = new Workspace(this, data);
      await this.workspace.start();
    } catch (error) {
      this.showFailure(error, "Open again");
    }
  }

  showFailure(error, again) {
    showError(error);
    fill(
      this.root,
      h(
        "section",
        { class: "welcome" },
        h("h2", {}, `${this.entry.name} is not open`),
        h("p", {}, error.what ?? String(error.message)),
        h("p", {}, error.fix ?? "Open the case again."),
        h("button", { type: "button", class: "primary", onclick: () => this.start() }, again),
      ),
    );
  }

  key(event) {
    this.workspace?.key(event);
  }

  /** Return whether the view can be left: nothing is unsaved, or the user gives it up. */
  mayLeave() {
    return !this.workspace?.isUnsaved() || window.confirm(`The correction of ${this.entry.name} is not saved. Leave it?`);
  }

  leave() {
    this.isLeft = true;
    this.workspace?.leave();
  }
}
