"""Published systems, one folder each: network, recipe, converter and card. `registry` finds them by name."""
