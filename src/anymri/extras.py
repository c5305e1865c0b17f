"""Extras of the package: optional parts of the installation, such as `anymri[train]`."""

from __future__ import annotations

from importlib.util import find_spec

from anymri.errors import MissingExtraError


def need(extra: str, *modules: str, purpose: str = "This") -> None:
    """Raise `MissingExtraError` with the install command of `extra` unless all modules are installed; import none.

    purpose  subject of the error's sentence, for example "Reading t1.nrrd"
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{purpose} needs {', '.join(missing)}, which {verb} not installed.",
            f"Install it: pip install 'anymri[{extra}]'",
        )
