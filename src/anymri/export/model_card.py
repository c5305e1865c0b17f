"""Facts of weights as text, for the formats in which weights are published."""

from __future__ import annotations

from anymri.modalities import ALL
from anymri.systems.registry import card as system_card
from anymri.text import count
from anymri.weights.card import WeightsCard

RESEARCH = "For research, not for diagnosis: not a medical device, and never a replacement of a radiologist."


def title(card: WeightsCard) -> str:
    """Return the name of weights for people."""
    return f"Brain tumour segmentation from any MRI modalities ({card.system})"


def description(card: WeightsCard) -> list[str]:
    """Return what the weights are and what they were trained on, as paragraphs."""
    system = system_card(card.system)
    paragraphs = [
        f"Segments whole tumour, tumour core and enhancing tumour from whichever of {', '.join(ALL)} exist.",
        f"System: {system.title}.",
    ]
    if card.summary:
        paragraphs.append(card.summary)
    if card.data:
        paragraphs.append(f"Training data: {card.data}")
    if card.synthetic_only:
        paragraphs.append("All training images were synthetic.")
    paragraphs.append(RESEARCH)
    return paragraphs


def dice_table(card: WeightsCard) -> list[str]:
    """Return the first table of Dice on the card as lines of Markdown; none without one."""
    if not card.tables:
        return []
    table = card.tables[0]
    regions = [region for region in ("WT", "TC", "ET") if any(region in row for row in table.dice.values())]
    lines = [f"Mean Dice on {table.data} ({count(table.cases, 'case')}):", ""]
    lines += [f"| modalities | {' | '.join(regions)} |", f"|---|{'---|' * len(regions)}"]
    for subset, row in table.dice.items():
        cells = [f"{row[region]:.3f}" if region in row else "" for region in regions]
        lines.append(f"| {subset} | {' | '.join(cells)} |")
    return lines
