// Label maps as bytes: the server writes them as gzip NIfTI-1 of uint8, in the order of the case's grid.

const UINT8 = 2;

/** Return the voxels of a label map, a Uint8Array in the order of the file (x fastest). */
export async function readLabels(response) {
  let bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  }
  const header = new DataView(bytes.buffer);
  if (header.getInt16(70, true) !== UINT8) throw new Error("A label map is not of type uint8.");
  const count = [42, 44, 46].reduce((product, at) => product * header.getInt16(at, true), 1);
  const first = header.getFloat32(108, true);
  return bytes.slice(first, first + count);
}

/** Return the voxels in the order in which the viewer keeps them (RAS), or back with `inverse`; see `gridOf`. */
export function reordered(voxels, { dims, step, start }, inverse = false) {
  const [nx, ny, nz] = dims;
  const out = new Uint8Array(voxels.length);
  let at = 0;
  for (let z = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      let from = start[0] + start[1] + start[2] + y * step[1] + z * step[2];
      for (let x = 0; x < nx; x++, at++, from += step[0]) {
        if (inverse) out[from] = voxels[at];
        else out[at] = voxels[from];
      }
    }
  }
  return out;
}

/** Return the grid of a volume of the viewer: its size in RAS, and the way from there into the file. */
export function gridOf(volume) {
  return {
    dims: volume.dimsRAS.slice(1, 4),
    spacing: volume.pixDimsRAS.slice(1, 4),
    step: volume.img2RASstep,
    start: volume.img2RASstart,
  };
}
