"""anymri: brain-tumour segmentation from whichever of T1, T1c, T2 and FLAIR a patient has.

load            load weights, to segment any number of cases
segment         segment one case
segment_cohort  segment all cases of a cohort
show            show a result or a case in a notebook
prepare_scans   register raw scans, mask the brain, and bring them to one grid
find_cases      find the cases of a cohort
read_case       read the scans of a case as arrays
train           train a system on a cohort
evaluate        evaluate weights on a cohort, for all 15 subsets of modalities
score           score the label maps of any tool
create          create a system as a torch module
features        compute features of any layer of a system, by name
list_systems    list the names of the systems
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymri._version import __version__
    from anymri.api import find_cases, list_systems, prepare_scans, read_case, train
    from anymri.evaluation.runner import evaluate
    from anymri.evaluation.scoring import score
    from anymri.inference import load, segment
    from anymri.inference.cohort import segment_cohort
    from anymri.studio.show import show
    from anymri.systems.features import features
    from anymri.systems.registry import create

__all__ = [
    "__version__",
    "create",
    "evaluate",
    "features",
    "find_cases",
    "list_systems",
    "load",
    "prepare_scans",
    "read_case",
    "score",
    "segment",
    "segment_cohort",
    "show",
    "train",
]

# Modules are imported when a name is first used: torch and pandas take seconds, the version takes 50 ms.
_MODULES = {
    "__version__": "anymri._version",
    "create": "anymri.systems.registry",
    "evaluate": "anymri.evaluation.runner",
    "features": "anymri.systems.features",
    "find_cases": "anymri.api",
    "list_systems": "anymri.api",
    "load": "anymri.inference",
    "prepare_scans": "anymri.api",
    "read_case": "anymri.api",
    "score": "anymri.evaluation.scoring",
    "segment": "anymri.inference",
    "segment_cohort": "anymri.inference.cohort",
    "show": "anymri.studio.show",
    "train": "anymri.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'anymri' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
