"""Sentences and tables of the page of one case.

The functions take the content of measurements.json (`measured`) and provenance.json of a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anymri.analysis.grid import Cell, Grid, Group
from anymri.evaluation.metrics.printing import NOTHING
from anymri.modalities import MODALITIES
from anymri.provenance import name_of_weights
from anymri.report.redaction import without_folders
from anymri.text import count, duration, visible

Measured = Mapping[str, Any]

REGION_NAMES = {
    "WT": "Whole tumour, with oedema (WT)",
    "TC": "Tumour core, enhancing and necrotic (TC)",
    "ET": "Enhancing tumour (ET)",
}
_CLASS_NAMES = {"NCR": "Necrotic or non-enhancing core", "ED": "Oedema", "ET": "Enhancing", "RC": "Resection cavity"}
_SIDES = {
    "left": "on the left",
    "right": "on the right",
    "both": "on both sides",
    "midline": "on both sides of the midline, which it crosses",
}
# Most lesions in the table of the page; measurements.json has all of them.
_MOST_LESIONS = 10


def findings(measured: Measured) -> list[str]:
    """Return what was found, as sentences: volume and side, enhancement with its diameters, number of lesions."""
    whole, enhancing = measured["regions"]["WT"], measured["regions"]["ET"]
    used = " and ".join(_listed(measured["modalities"]))
    if not whole["volume_ml"]:
        return [f"No tumour was found in {used}. This does not exclude a tumour: small or unusual ones can be missed."]
    where = _SIDES.get(whole["side"] or "", "")
    opening = f"A tumour of {_ml(whole['volume_ml'])} with its oedema was found {where}".rstrip()
    sentences = [f"{opening}, from {used}."]
    lesions = enhancing["lesions"]
    if not enhancing["volume_ml"]:
        sentences.append("No part of it was found to enhance.")
    else:
        text = f"Of it, {_ml(enhancing['volume_ml'])} is enhancing tumour"
        if lesions:
            largest = max(lesions, key=lambda lesion: float(lesion["product_mm2"]))
            text += (
                f"; the largest enhancing lesion measures {largest['longest_mm']:.0f} x "
                f"{largest['perpendicular_mm']:.0f} mm in an axial slice (RANO), product "
                f"{largest['product_mm2'] / 100:.1f} cm²"
            )
            if not largest["measurable"]:
                text += ", not measurable by that rule"
        sentences.append(f"{text}.")
        if sum(lesion["measurable"] for lesion in lesions) > 1:
            total = enhancing["sum_of_products_mm2"] / 100
            sentences.append(f"The products of the measurable enhancing lesions add up to {total:.1f} cm².")
    parts = count(len(whole["lesions"]), "separate lesion")
    sentences.append(f"There {'is' if len(whole['lesions']) == 1 else 'are'} {parts} above 0.05 mL.")
    if "T1c" not in measured["modalities"]:
        sentences.append(
            "T1c, the scan with contrast agent, was not used: what enhances is an estimate from the other scans."
        )
    return sentences


def regions_grid(measured: Measured) -> Grid:
    """Return one row per region and per class, with volumes, their range, the uncertain share and the side."""
    with_range = "volume_ml_at_0.25" in measured["regions"]["WT"]
    columns = ["volume, mL", *(["at probability 0.75 to 0.25", "uncertain"] if with_range else []), "side"]
    rows = []
    for region, values in measured["regions"].items():
        cells = [REGION_NAMES.get(region, region), f"{values['volume_ml']:.1f}"]
        if with_range:
            cells.append(f"{values['volume_ml_at_0.75']:.1f} to {values['volume_ml_at_0.25']:.1f}")
            cells.append(f"{values['uncertain_share']:.0%}" if "uncertain_share" in values else NOTHING)
        rows.append([Cell(text) for text in (*cells, values["side"] or NOTHING)])
    for name, values in measured["classes"].items():
        if name not in measured["regions"]:
            blank = [NOTHING] * (len(columns) - 1)
            rows.append([Cell(text) for text in (_CLASS_NAMES.get(name, name), f"{values['volume_ml']:.1f}", *blank)])
    notes = (
        "The volumes at other probabilities show how much depends on the threshold of 0.5. They are not a confidence "
        "interval. Uncertain is the share of voxels of the region with a probability of at most 0.75.",
    )
    return Grid("Volumes", ("region",), [Group("", columns)], rows, notes=notes if with_range else ())


def lesions_grid(measured: Measured) -> Grid | None:
    """Return one row per lesion, the largest ones of WT and ET; None without any."""
    columns = ("volume, mL", "longest, mm", "perpendicular, mm", "product, cm²", "measurable", "side", "slice")
    rows, notes = [], []
    for region in ("ET", "WT"):
        values = measured["regions"][region]
        for number, lesion in enumerate(values["lesions"][:_MOST_LESIONS], start=1):
            cells = (
                f"{region} {number}",
                f"{lesion['volume_ml']:.2f}",
                f"{lesion['longest_mm']:.1f}",
                f"{lesion['perpendicular_mm']:.1f}",
                f"{lesion['product_mm2'] / 100:.1f}",
                "yes" if lesion["measurable"] else "no",
                lesion["side"] or NOTHING,
                str(lesion["axial_slice"]),
            )
            rows.append([Cell(text) for text in cells])
        more = len(values["lesions"]) - _MOST_LESIONS
        if more > 0:
            notes.append(f"{more} more of {region} are in measurements.json.")
        if values["small_lesions"]:
            pieces = count(values["small_lesions"], "piece")
            notes.append(f"{pieces} of {region} of at most 0.05 mL, together {values['small_lesions_ml']:.3f} mL.")
    reading = (
        "Largest diameter in an axial slice and the one perpendicular to it, by the rule of RANO; measurable: both at "
        "least 10 mm, on two slices or more. Slices are counted from 0.",
    )
    return Grid("Lesions", ("lesion",), [Group("", columns)], rows, reading, notes) if rows else None


def scans(measured: Measured, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return modality -> whether it was used, given or missing, and the grid of the result."""
    given = [modality for modality in MODALITIES if modality in inputs]
    states = dict.fromkeys(MODALITIES, "missing") | dict.fromkeys(given, "given, not used")
    states |= dict.fromkeys(measured["modalities"], "used")
    grid = measured.get("grid")
    if grid:
        shape, spacing = (" x ".join(f"{n:g}" for n in grid[key]) for key in ("shape", "spacing_mm"))
        where = "the grid of the network" if grid["space"] == "prepared" else f"the grid of {grid['space']}"
        states["Result"] = f"on {where}: {shape} voxels of {spacing} mm, {grid['orientation']}"
    return states


def missing(measured: Measured) -> list[str]:
    """Return what is missing, and what is known about what it would bring."""
    absent = measured["missing"]
    if not absent:
        return ["All four scans were used."]
    text = f"{' and '.join(_listed(absent))} {'was' if len(absent) == 1 else 'were'} not used."
    if not measured.get("expected_dice"):
        it = "it" if len(absent) == 1 else "they"
        text += f" No evaluation of the weights is at hand that shows what {it} would bring."
    return [text]


def gains_grid(measured: Measured) -> Grid | None:
    """Return one row per missing modality with the expected change of Dice; None without an evaluation."""
    expected = measured.get("expected_dice")
    if not expected:
        return None
    regions = [region for region in REGION_NAMES if any(region in changes for changes in expected.values())]
    rows = []
    for modality, changes in expected.items():
        texts = [_gain(changes[region]) if region in changes else NOTHING for region in regions]
        rows.append([Cell(text) for text in (f"with {modality}", *texts)])
    reading = (
        "Change of the mean Dice in percentage points if the scan were added alone, and both means, on the data on "
        "which the weights were evaluated. It is not a prediction for this patient.",
    )
    return Grid("What a missing scan would bring", ("scan",), [Group("", regions)], rows, reading)


def limits(measured: Measured, provenance: Mapping[str, Any]) -> list[str]:
    """Return what the numbers do not show, as sentences."""
    card = provenance["configuration"].get("weights", {})
    cases = len(card.get("trained_on") or ())
    trained = f" on {count(cases, 'case')}" if cases else ""
    if card.get("synthetic_only"):
        trained = " on synthetic images only, never on a patient,"
    sentences = [
        f"The network was trained{trained} with a known kind of tumour and scan. Other diseases, children, scans after "
        "surgery and unusual sequences can give wrong results that look right.",
        "Oedema, infiltrating tumour and effects of therapy look alike on MRI, and the outlines do not separate them.",
        "Diameters and volumes are those of the label map on its grid. A reader who measures by hand can get others.",
    ]
    if measured.get("middle_x_mm") is not None:
        sentences.append("Left and right are divided at the middle of the head in the scanner, which is approximate.")
    if measured["missing"]:
        sentences.append("With fewer than four scans the result is less certain, most of all without T1c or FLAIR.")
    return sentences


def provenance(record: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> value of what the result was made with; hashes stand for files.

    Of files, only those of the weights are named.
    """
    configuration, card = record["configuration"], record["configuration"].get("weights", {})
    hashes = {role: str(each.get("sha256", ""))[:12] for role, each in record.get("inputs", {}).items()}
    versions = record.get("versions", {})
    seconds = sum(float(each.get("seconds") or 0) for each in configuration.get("preparation", ()))
    weights = [
        name_of_weights(str(each.get("file", "")))
        for role, each in record.get("inputs", {}).items()
        if role.startswith("weights")
    ]
    facts = {
        "System": str(card.get("system", "")),
        "Weights": ", ".join(weights),
        "Origin of the weights": without_folders(str(card.get("origin", "")), record.get("inputs", {})),
        "SHA-256": ", ".join(f"{role} {value}..." for role, value in hashes.items() if value),
        "Made": f"{record.get('created', '')} on {record.get('device', '')}",
        "Preparation": duration(seconds) if seconds else "",
        "Software": ", ".join(
            f"{name} {versions[name]}" for name in ("anymri", "torch", "python") if versions.get(name)
        ),
    }
    return {name: visible(value) for name, value in facts.items() if value}


def _gain(values: Mapping[str, float]) -> str:
    return f"{100 * values['change']:+.1f} ({100 * values['before']:.1f} to {100 * values['after']:.1f})"


def _ml(volume: float) -> str:
    if volume < 0.01:
        return "less than 0.01 mL"
    return f"{volume:.1f} mL" if volume >= 1 else f"{volume:.2f} mL"


def _listed(words: Sequence[str]) -> list[str]:
    """Return the words as two parts to join by "and": all but the last with commas, and the last."""
    return [", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words)
