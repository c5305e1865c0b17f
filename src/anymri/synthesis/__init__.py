"""Synthesis of phantoms: anatomy, tumours and their appearance on each modality."""
