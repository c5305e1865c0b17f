"""Disentangling family: Robust-Mseg and SFusion, which separate the content of a scan from its style."""
