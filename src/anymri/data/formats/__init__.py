"""File formats of images: readers of each, the writer of NIfTI, and checks of what was read.

A reader takes a path and returns the array (x, y, z) float32, the affine (4, 4) float64 from voxels to RAS+ mm, and the
NIfTI header of the file, None for other formats. `anymri.data.image` chooses the reader.
"""
