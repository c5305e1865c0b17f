"""Rigid registration by mutual information: images of several resolutions, many starts, a few refinements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.image import Image
from anymri.errors import ImageError
from anymri.prepare.grid import Grid, study_grid
from anymri.prepare.resampling import resample

Transform = NDArray[np.float64]
LEVELS_MM = (8.0, 4.0, 2.0)
# The metric sees the brain and this much around it, without the scalp, which moves against the skull. At the finest
# level it sees the inside alone: edges of brains lie elsewhere on scans that were skull-stripped one by one.
_AROUND_MM = (4.0, 4.0, -3.0)
_SHARES = (1.0, 1.0, 0.2)  # of the voxels that the metric uses
# Radius of a brain, which makes angles and shifts comparable.
_RADIUS_MM = 70.0
_MARGIN_MM = 20.0  # around the brain
_BINS = 32
_STEPS = 60
_PERCENTILES = (0.5, 99.5)
# Local normalisation: deviation of the Gaussian, smallest deviation of intensities, largest value.
_NEIGHBOURHOOD_MM, _NOISE, _CLIP = 8.0, 0.02, 3.0


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan and its brain at one isotropic resolution, as (X, Y, Z) arrays on one grid.

    array  float32; at the finest level `_locally_normalised`, else 0 to 1 from the darkest to the brightest part of the
           brain, clipped beyond
    brain  share of each voxel that is brain, float32 0 to 1
    """

    array: NDArray[np.float32]
    brain: NDArray[np.float32]
    grid: Grid

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        """Centre of the brain in world coordinates (3,)."""
        inside = np.argwhere(self.brain > 0.5)
        centre: NDArray[np.float64] = self.grid.affine[:3, :3] @ inside.mean(axis=0) + self.grid.affine[:3, 3]
        return centre


def pyramid(image: Image, brain: NDArray[np.bool_]) -> list[Scan]:
    """Return a scan at the resolutions of `LEVELS_MM`, the coarsest first.

    Raises `ImageError` for a mask that is empty or vanishes at the coarsest resolution.
    """
    if not brain.any():
        raise ImageError(
            f"The brain mask of {image.path} is empty, so that the scan cannot be registered.",
            "Check that it is a scan of a head, or give a brain mask with --brain-mask.",
        )
    image, brain = _cropped(image, brain)
    finest = study_grid(image, LEVELS_MM[-1])
    array = resample(image.array, image.affine, finest, outside=float(image.array.min()))
    inside = resample(brain, image.affine, finest)
    if not (inside > 0.5).any():
        raise _too_small(image)
    low, high = np.percentile(array[inside > 0.5], _PERCENTILES)
    array = np.clip((array - low) / max(float(high - low), 1e-6), 0, 1)
    scans = []
    for spacing in LEVELS_MM:
        grid = study_grid(Image(array, finest.affine, image.path), spacing)
        scans.append(Scan(resample(array, finest.affine, grid), resample(inside, finest.affine, grid), grid))
    if not all((scan.brain > 0.5).any() for scan in scans):
        raise _too_small(image)
    scans[-1] = replace(scans[-1], array=_locally_normalised(scans[-1]))
    return scans


def _too_small(image: Image) -> ImageError:
    return ImageError(
        f"The brain found in {image.path} is smaller than a voxel of {LEVELS_MM[0]:g} mm, so that the scan cannot "
        "be registered.",
        "Check that it is a scan of a head, give a brain mask with --brain-mask, or leave the scan out.",
    )


def _cropped(image: Image, brain: NDArray[np.bool_]) -> tuple[Image, NDArray[np.bool_]]:
    """Return the part of a scan around its brain."""
    margins = np.ceil(_MARGIN_MM / np.array(image.spacing_mm)).astype(int).tolist()
    found = ndimage.find_objects(brain.view(np.uint8), max_label=1)[0]
    box = tuple(
        slice(max(side.start - margin, 0), side.stop + margin) for side, margin in zip(found, margins, strict=True)
    )
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Image(image.array[box], affine, image.path), brain[box]


def _locally_normalised(scan: Scan) -> NDArray[np.float32]:
    """Return the scan with about mean 0 and deviation 1 around every voxel of the brain, and 0 outside.

    Coil sensitivities, and edges that skull stripping made, would else attract the registration by some millimetres.
    """
    inside = (scan.brain > 0.5).astype(np.float32)
    weight = _blurred(inside, scan.grid) + 1e-6
    mean = _blurred(inside * scan.array, scan.grid) / weight
    variance = _blurred(inside * scan.array**2, scan.grid) / weight - mean**2
    normalised = inside * (scan.array - mean) / np.sqrt(np.maximum(variance, 0) + _NOISE**2)
    clipped: NDArray[np.float32] = np.clip(normalised, -_CLIP, _CLIP).astype(np.float32)
    return clipped


def _blurred(array: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(array, _NEIGHBOURHOOD_MM / grid.spacing_mm[0], truncate=3)
    return blurred


class Aligner:
    """Metric and optimiser between two scans at one level of their pyramids; deterministic."""

    def __init__(self, fixed: Sequence[Scan], moving: Sequence[Scan], level: int) -> None:
        """Select the voxels of the metric at a level; rotations are about the centre of the fixed brain."""
        scan = fixed[level]
        self.spacing_mm = LEVELS_MM[level]
        self._share = _SHARES[level]
        self._centre = scan.centre_mm
        region = _region(scan.brain > 0.5, self.spacing_mm, _AROUND_MM[level])
        box = ndimage.find_objects(region.view(np.uint8))[0]
        self._fixed = _itk(scan.array[box], scan.grid, box)
        self._region = _itk(region[box].view(np.uint8), scan.grid, box)
        self._moving = _itk(moving[level].array, moving[level].grid)

    def value(self, transform: Transform) -> float:
        """Return the mutual information under a transform, larger is better; 0 if the scans do not touch."""
        method = self._method(seed=1)
        method.SetInitialTransform(_euler(transform, self._centre))
        try:
            return -float(method.MetricEvaluate(self._fixed, self._moving))
        except RuntimeError:  # too few positions are inside the moving scan
            return 0.0

    def refine(self, transform: Transform, seed: int = 1) -> Transform:
        """Return the nearest transform with the largest mutual information; the same if the scans do not touch."""
        method = self._method(seed)
        euler = _euler(transform, self._centre)
        method.SetInitialTransform(euler, inPlace=True)
        method.SetOptimizerScales([_RADIUS_MM**2] * 3 + [1.0] * 3)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=self.spacing_mm / 2,
            minStep=self.spacing_mm / 200,
            numberOfIterations=_STEPS,
            relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-8,
        )
        try:
            method.Execute(self._fixed, self._moving)
        except RuntimeError:  # as above
            return transform
        return _matrix(euler)

    def _method(self, seed: int) -> Any:
        import SimpleITK

        method = SimpleITK.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)  # sums of several threads depend on their number
        method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetMetricFixedMask(self._region)
        method.SetInterpolator(SimpleITK.sitkLinear)
        # Gradients where they are needed take a fifth of the time of gradient images, and are sharper.
        method.MetricUseFixedImageGradientFilterOff()
        method.MetricUseMovingImageGradientFilterOff()
        if self._share < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(self._share, seed)
        return method


def _region(brain: NDArray[np.bool_], spacing_mm: float, around_mm: float) -> NDArray[np.bool_]:
    """Return the brain and `around_mm` around it, or without so much at its edge if it is negative."""
    if around_mm < 0:
        inside: NDArray[np.bool_] = ndimage.distance_transform_edt(brain, sampling=spacing_mm) > -around_mm
        return inside if inside.any() else brain
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~brain, sampling=spacing_mm) <= max(around_mm, spacing_mm)
    return near


def rotated(
    angles_degrees: Sequence[float], source_mm: NDArray[np.float64], target_mm: NDArray[np.float64]
) -> Transform:
    """Return the rotation about x, y and z that sends one point to another."""
    from scipy.spatial.transform import Rotation

    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", angles_degrees, degrees=True).as_matrix()
    transform[:3, 3] = target_mm - transform[:3, :3] @ source_mm
    return transform


def _euler(transform: Transform, centre: NDArray[np.float64]) -> Any:
    import SimpleITK

    euler = SimpleITK.Euler3DTransform()
    euler.SetCenter(centre.tolist())
    left, _, right = np.linalg.svd(transform[:3, :3])  # SimpleITK accepts rotations without rounding errors alone
    euler.SetMatrix((left @ right).ravel().tolist(), 1e-6)
    euler.SetTranslation((transform[:3, :3] @ centre + transform[:3, 3] - centre).tolist())
    return euler


def _matrix(euler: Any) -> Transform:
    transform, centre = np.eye(4), np.array(euler.GetCenter())
    transform[:3, :3] = np.array(euler.GetMatrix()).reshape(3, 3)
    transform[:3, 3] = centre + euler.GetTranslation() - transform[:3, :3] @ centre
    return transform


def _itk(array: NDArray[Any], grid: Grid, box: tuple[slice, ...] | None = None) -> Any:
    """Return a SimpleITK image whose physical space is the RAS+ world of the grid.

    box  part of the grid that the array is
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing = np.array(grid.spacing_mm)
    start = np.array([side.start for side in box] if box else [0, 0, 0])
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((grid.affine[:3, :3] @ start + grid.affine[:3, 3]).tolist())
    image.SetDirection((grid.affine[:3, :3] / spacing).ravel().tolist())
    return image
