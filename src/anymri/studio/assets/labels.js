// Label maps of a case: segmentations, expert label, corrections, and what differs between two of them.

import { ADDED, LOST, ONLY_LEFT, ONLY_RIGHT } from "./colours.js";
import { request } from "./api.js";
import { readLabels } from "./nifti.js";
import { runJob } from "./notices.js";

// A map of 240x240x155 takes 9 MB.
const KEPT_MAPS = 10;
// Values of the server's maps of differences.
const FIRST_ONLY = 2;
const SECOND_ONLY = 3;

/**
 * Label maps of a case by their references, which are { label } or { weights, subset }.
 *
 * Maps are arrays of bytes in the order of the file. The same map is the same array, so that it is drawn only once.
 */
export class LabelMaps {
  constructor(path, labels) {
    this.path = path;
    this.labels = labels;
    this.maps = new Map();
    this.segmentations = new Map();
    this.composites = new Map();
  }

  /** Return the segmentation of weights and a subset, computed by the server where it is not there yet. */
  async segmentation(weights, subset) {
    const key = JSON.stringify([weights, subset]);
    if (!this.segmentations.has(key)) {
      const found = await runJob(`Segmenting from ${subset}`, `${this.path}/segment`, { weights, subset });
      this.segmentations.set(key, found);
    }
    return this.segmentations.get(key);
  }

  /** Return the label map of a reference. */
  async of(reference) {
    if (reference.label) return this.at(this.labels.find(({ name }) => name === reference.label).url);
    return this.at((await this.segmentation(reference.weights, reference.subset)).mask_url);
  }

  /** Return the map of an address. */
  async at(url) {
    if (!this.maps.has(url)) this.maps.set(url, request(url).then(readLabels));
    const map = this.maps.get(url);
    map.catch(() => this.maps.delete(url));
    while (this.maps.size > KEPT_MAPS) this.maps.delete(this.maps.keys().next().value);
    return map;
  }

  /** Return a segmentation with what was added and lost against all scans. */
  async withChange(reference) {
    // The first of the two is this subset.
    const { mask_url: mask, change_url: change } = await this.segmentation(reference.weights, reference.subset);
    return this.marked(mask, change, { [FIRST_ONLY]: ADDED, [SECOND_ONLY]: LOST });
  }

  /** Return a label map with the places where only it ("left" or "right") has tumour; `url` is that of the comparison. */
  async withDisagreement(reference, url, side) {
    const mask = reference.label
      ? this.labels.find(({ name }) => name === reference.label).url
      : (await this.segmentation(reference.weights, reference.subset)).mask_url;
    return this.marked(mask, url, side === "left" ? { [FIRST_ONLY]: ONLY_LEFT } : { [SECOND_ONLY]: ONLY_RIGHT });
  }

  async marked(url, differences, marks) {
    const [labels, places] = [await this.at(url), await this.at(differences)];
    const key = Object.values(marks).join();
    const kept = this.composites.get(key);
    if (kept?.url === url && kept.differences === differences) return kept.result;
    const result = labels.map((label, at) => marks[places[at]] ?? label);
    this.composites.set(key, { url, differences, result });
    return result;
  }

  /** Return a reference in words. */
  inWords(reference) {
    if (!reference) return "no label map";
    if (reference.label) return this.labels.find(({ name }) => name === reference.label)?.title ?? reference.label;
    return `${reference.weights} from ${reference.subset}`;
  }
}
