# ruff: noqa: N999 (named after the module)
"""Logic of the 3D Slicer module AnyMRI: plain Python without Slicer, Qt and anymri."""
