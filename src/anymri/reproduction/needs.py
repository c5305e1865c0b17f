"""What the training of a reproduction takes on this machine, measured with its first cases."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from anymri.data.cache import cache_case
from anymri.regions import label_scheme
from anymri.reproduction.plan import Plan
from anymri.systems.registry import build, spec
from anymri.training.estimate import estimate
from anymri.training.position import Position
from anymri.training.process_group import start_process_group

# Cases that are prepared to measure steps and the size of the cache.
_CASES = 2


@dataclass(frozen=True)
class Needs:
    """What a training takes on this machine.

    seconds  duration of all steps, without validation and test
    memory   peak in bytes; None where it is not known
    cache    size of the preprocessed cases in bytes
    """

    seconds: float
    memory: int | None
    cache: int


def measure(plan: Plan) -> Needs:
    """Prepare some cases in a temporary folder, take steps of each stage, and return what all of it takes."""
    recipe, scheme = plan.configuration.recipe, label_scheme(plan.data.scheme)
    group = start_process_group(plan.configuration.device, recipe.precision)
    with tempfile.TemporaryDirectory(prefix="anymri-") as temporary:
        some = plan.lists.train[:_CASES]
        cached = [cache_case(case, scheme, recipe.preprocessing, Path(temporary)) for case in some]
        size = sum(file.stat().st_size for file in Path(temporary).rglob("*") if file.is_file())
        system = build(recipe.system, {**recipe.network, "num_classes": scheme.num_classes})
        found = estimate(group, spec(recipe.system), system, cached, recipe.stages, Position())
    cases = {case.name for case in (*plan.lists.train, *plan.lists.validation)}
    return Needs(found.seconds, found.memory, size * len(cases) // len(some))


def free_space(folder: Path) -> int:
    """Return the free bytes where a folder is, or will be."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free
