// NiiVue as this page uses it: its options, the arrangement of planes, and no work that nothing needs.

import { StudioError } from "./api.js";

const { Niivue } = globalThis.niivue;
const { AXIAL, CORONAL, SAGITTAL, RENDER } = globalThis.niivue.SLICE_TYPE;
export const { NVImage, DRAG_MODE } = globalThis.niivue;

const OPTIONS = {
  backColor: [0, 0, 0, 1],
  crosshairColor: [1, 1, 1, 0.55],
  crosshairWidthUnit: "mm",
  crosshairGap: 6,
  show3Dcrosshair: true,
  isRadiologicalConvention: true,
  isOrientationTextVisible: true,
  dragAndDropEnabled: false,
  isColorbar: false,
  isRuler: false,
  dragMode: DRAG_MODE.contrast,
  dragModePrimary: DRAG_MODE.crosshair,
  measureLineColor: [1, 1, 1, 1],
  measureTextColor: [1, 1, 1, 1],
  fontMinPx: 12,
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
  viewModeHotKey: "",
  maxDrawUndoBitmaps: 2,
  logLevel: "error",
  loadingText: "",
};

/** Return a new viewer on a canvas; throws a `StudioError` where the browser has no WebGL 2. */
export async function newViewer(canvas) {
  if (!document.createElement("canvas").getContext("webgl2")) {
    throw new StudioError(
      "This browser cannot draw the images, because it has no WebGL 2.",
      "Use a current Firefox, Chrome, Edge or Safari, and allow graphics acceleration in its settings.",
    );
  }
  const viewer = new Niivue(OPTIONS);
  await viewer.attachToCanvas(canvas, false);
  skipGradients(viewer);
  return viewer;
}

/** Return the arrangement of a pane: [left, top, width, height] of each tile as fractions, the axial plane largest. */
export function tiles(plane, is3d, isWide) {
  const single = { axial: AXIAL, coronal: CORONAL, sagittal: SAGITTAL }[plane];
  const small = single === undefined ? [CORONAL, SAGITTAL] : [];
  if (is3d) small.push(RENDER);
  const large = { sliceType: single ?? AXIAL, position: [0, 0, 1, 1] };
  if (!small.length) return [large];
  const share = 0.6;
  large.position = isWide ? [0, 0, share, 1] : [0, 0, 1, share];
  const rest = small.map((sliceType, at) => {
    const along = [at / small.length, 1 / small.length];
    const across = [share, 1 - share];
    return { sliceType, position: isWide ? [across[0], along[0], across[1], along[1]] : [along[0], across[0], along[1], across[1]] };
  });
  return [large, ...rest];
}

/**
 * Spare the viewer the gradient of every volume that it shows: only lit renderings need it, which are not used here.
 *
 * Without a graphics card it takes 6 seconds at 240x240x155. A program that draws nothing takes its place.
 */
function skipGradients(viewer) {
  const { gl } = viewer;
  const program = gl.createProgram();
  const stages = [
    [gl.VERTEX_SHADER, "#version 300 es\nvoid main() { gl_Position = vec4(2.0, 2.0, 2.0, 1.0); }"],
    [gl.FRAGMENT_SHADER, "#version 300 es\nprecision lowp float;\nout vec4 colour;\nvoid main() { colour = vec4(0.0); }"],
  ];
  for (const [type, source] of stages) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  const nothing = { uniforms: {}, use: () => gl.useProgram(program) };
  viewer.blurShader = nothing;
  viewer.sobelFirstOrderShader = nothing;
}
