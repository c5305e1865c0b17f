"""Families of systems: blocks, objective and checkpoint names that several systems share."""
