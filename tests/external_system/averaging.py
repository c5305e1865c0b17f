"""Averaging: the smallest system, in a package of its own. Only `spec` imports torch."""

from anymri.systems.card import Card

CARD = Card(
    name="averaging",
    title="Voxel-wise classifier of the mean of all available modalities",
    idea="The mean of the available modalities does not depend on their number.",
    presets={"nano": {}},
    parameters=8,
    switches={},
)


def spec():
    """Return network, recipe and objective."""
    from averaging_network import OBJECTIVES, RECIPES, Averaging, segmentation_losses

    from anymri.systems.spec import SystemSpec

    return SystemSpec(Averaging, RECIPES, OBJECTIVES, segmentation_losses, convert=None)
