"""Realistic synthetic cases: procedural brains with gliomas, as four MRI scans show them."""
