// One view of a case: NiiVue with a scan, an optional heat map, and a label map as its drawing layer.

import { drawingColours, LOST } from "./colours.js";
import { gridOf, reordered } from "./nifti.js";
import { request, StudioError } from "./api.js";
import { showError } from "./notices.js";
import { DRAG_MODE, newViewer, NVImage, tiles } from "./viewer.js";

// A scan of 240x240x155 takes 36 MB: four scans, a reconstructed one and two heat maps.
const KEPT_VOLUMES = 7;
// The outline needs a fill that is not quite transparent.
const NO_FILL = 0.002;
const RC = 4;

let volumes = new Map();

/** Return the volume of an address, read once and kept while it is in use. */
function loaded({ url, window: range, heat }) {
  if (!volumes.has(url)) volumes.set(url, read(url, range, heat));
  const volume = volumes.get(url);
  volumes.delete(url);
  volumes.set(url, volume);
  while (volumes.size > KEPT_VOLUMES) volumes.delete(volumes.keys().next().value);
  volume.catch(() => volumes.delete(url));
  return volume;
}

/** Release the volumes of the case that was open. */
export const forgetVolumes = () => {
  volumes = new Map();
};

async function read(url, range, heat) {
  const bytes = await (await request(url)).arrayBuffer();
  const [low, high] = range ?? [NaN, NaN];
  return NVImage.new(bytes, "volume.nii.gz", heat ?? "gray", 1, null, low, high);
}

/** View of a case on one canvas. */
export class Pane {
  /** onmove receives the crosshair whenever it moves: { voxel, mm, values, label }. */
  constructor(canvas, onmove = () => {}) {
    this.canvas = canvas;
    this.onmove = onmove;
    this.opacity = 0.45;
    this.outline = false;
    this.visible = true;
    this.drawn = null;
    this.hasCavity = false;
    this.heatOpacity = 0.6;
    this.turn = 0;
    this.viewer = null;
    this.plane = "three";
    this.is3d = false;
  }

  /** Attach the viewer to its canvas; throw where the browser has no WebGL 2. */
  async open() {
    this.viewer = await newViewer(this.canvas);
    this.viewer.setDrawColormap(drawingColours());
    this.viewer.onLocationChange = () => {
      this.report();
      this.mirror();
    };
    this.viewer.onAzimuthElevationChange = () => this.mirror();
    this.viewer.drawRimOpacity = 1;
    this.arrange();
    this.canvas.addEventListener("webglcontextlost", () => {
      if (this.viewer) showError(new StudioError("The graphics of this browser were interrupted.", "Open the case again."));
    });
    new ResizeObserver(() => this.viewer && this.arrange()).observe(this.canvas);
  }

  /** Release the graphics; the pane cannot be used any more. */
  close() {
    const { viewer } = this;
    this.viewer = null;
    viewer?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    viewer?.cleanup();
  }

  /** Show a scan, and a heat map over it or null; returns whether they are still the ones wanted once read. */
  async show(volume, heat = null) {
    const turn = ++this.turn;
    const wanted = await Promise.all([volume, heat].filter(Boolean).map(loaded));
    if (turn !== this.turn || !this.viewer) return false;
    const viewer = this.viewer;
    const isFirst = !viewer.volumes.length || this.size !== wanted[0].dimsRAS.join();
    const position = isFirst ? null : [...viewer.scene.crosshairPos];
    if (wanted[1]) wanted[1].opacity = this.heatOpacity;
    wanted[0].opacity = 1;
    viewer.volumes = wanted;
    viewer.setVolume(wanted[0], 0);
    this.size = wanted[0].dimsRAS.join();
    this.grid = gridOf(wanted[0]);
    if (position) viewer.scene.crosshairPos = position;
    if (isFirst) {
      this.drawn = null;
      viewer.createEmptyDrawing();
      viewer.setDrawingEnabled(false);
      this.arrange();
    }
    this.refresh();
    return true;
  }

  /** Show a label map (voxels in the order of the file), or none. */
  drawLabels(voxels) {
    if (voxels && voxels === this.drawn) return;
    this.drawn = voxels;
    this.hasCavity = voxels?.includes(RC) ?? false;
    const count = this.grid.dims.reduce((product, side) => product * side, 1);
    this.viewer.drawBitmap = voxels ? reordered(voxels, this.grid) : new Uint8Array(count);
    this.viewer.refreshDrawing(false);
    this.refresh();
  }

  /** Show what was changed in the viewer's own label map; a later `drawLabels` draws anew. */
  redraw() {
    this.drawn = null;
    this.viewer.refreshDrawing(false);
    this.refresh();
  }

  /** Return the label map as drawn and corrected by hand, in the order of the file. */
  drawnLabels() {
    return reordered(this.viewer.drawBitmap, this.grid, true);
  }

  /** Redraw after a change of opacity, outline or visibility. */
  refresh() {
    const viewer = this.viewer;
    if (!viewer?.volumes.length) return;
    viewer.drawOpacity = this.visible ? (this.outline ? NO_FILL : this.opacity) : 0;
    viewer.drawRimOpacity = this.visible ? 1 : 0;
    if (viewer.volumes[1] && viewer.volumes[1].opacity !== this.heatOpacity) {
      viewer.setOpacity(1, this.heatOpacity);
    }
    viewer.drawScene();
    this.report();
  }

  /** Show "three" planes or one of them, and a volume rendering with `is3d`. */
  arrange(plane = this.plane, is3d = this.is3d) {
    this.plane = plane;
    this.is3d = is3d;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const layout = tiles(plane, is3d, width > height);
    const [, , share, shareHigh] = layout.at(-1).position;
    this.thinCrosshair(Math.min(share * width, shareHigh * height));
    this.viewer.setCustomLayout(layout);
  }

  /** Let the crosshair be one pixel wide in a tile of so many pixels; thinner lines would have gaps. */
  thinCrosshair(pixels) {
    const { viewer, grid } = this;
    if (!grid || !pixels) return;
    viewer.opts.crosshairWidth = (1.05 * Math.max(...grid.dims.map((count, axis) => count * grid.spacing[axis]))) / pixels;
    if (viewer.crosshairs3D) viewer.crosshairs3D.mm[0] = NaN; // as the viewer itself says that it must be built anew
  }

  /** Move the crosshair by voxels towards the patient's right, front and head. */
  move(x, y, z) {
    this.viewer.moveCrosshairInVox(x, y, z);
    this.mirror();
  }

  /** Move the crosshair to a voxel, counted in RAS. */
  goTo(voxel) {
    this.viewer.scene.crosshairPos = this.viewer.vox2frac(voxel);
    this.viewer.drawScene();
    this.report();
    this.mirror();
  }

  /** Keep the crosshair, the zoom and the view angle of another pane the same as here. */
  link(other) {
    this.linked = other;
    this.mirror();
  }

  // Not by the viewer's own broadcast: between viewers that are linked both ways it never ends.
  mirror() {
    const other = this.linked?.viewer;
    if (!other?.volumes.length) return;
    const { crosshairPos, pan2Dxyzmm, azimuth, elevation } = this.viewer.scene.sceneData;
    // Below the setters of the scene, which would report the change back.
    Object.assign(other.scene.sceneData, { crosshairPos: [...crosshairPos], pan2Dxyzmm: [...pan2Dxyzmm], azimuth, elevation });
    other.drawScene();
  }

  /** Return the crosshair's voxel (RAS). */
  voxel() {
    return Array.from(this.viewer.frac2vox(this.viewer.scene.crosshairPos));
  }

  /** Return the index of a voxel (RAS) in the drawn map. */
  index([x, y, z]) {
    const [nx, ny] = this.grid.dims;
    return x + nx * (y + ny * z);
  }

  report() {
    const viewer = this.viewer;
    if (!viewer?.volumes.length) return;
    const voxel = this.voxel();
    const mm = Array.from(viewer.frac2mm(viewer.scene.crosshairPos)).slice(0, 3);
    const values = viewer.volumes.map((volume) => volume.getValue(...voxel, volume.frame4D));
    this.onmove({ voxel, mm, values, label: viewer.drawBitmap?.[this.index(voxel)] ?? 0 });
  }

  /** Move the crosshair to the middle of the largest axial slice of the label map. */
  goToTumour() {
    const [nx, ny, nz] = this.grid.dims;
    const drawn = this.viewer.drawBitmap;
    let best = null;
    for (let z = 0, at = 0; z < nz; z++) {
      let count = 0;
      let sumX = 0;
      let sumY = 0;
      for (let y = 0; y < ny; y++) {
        for (let x = 0; x < nx; x++, at++) {
          if (drawn[at] && drawn[at] !== LOST) {
            count++;
            sumX += x;
            sumY += y;
          }
        }
      }
      if (count && (!best || count > best.count)) best = { count, voxel: [sumX / count, sumY / count, z].map(Math.round) };
    }
    if (best) this.goTo(best.voxel);
  }

  /** Choose what dragging with the left button does: "crosshair", "measure" or "pen". */
  tool(name, { value = 1, size = 5 } = {}) {
    const viewer = this.viewer;
    viewer.opts.dragModePrimary = name === "measure" ? DRAG_MODE.measurement : DRAG_MODE.crosshair;
    viewer.setDrawingEnabled(name === "pen");
    viewer.opts.penSize = size;
    if (name === "pen") viewer.setPenValue(value, false);
  }
}
