"""Weights: their card, the safetensors files that hold them, and the conversion of the authors' checkpoints."""
