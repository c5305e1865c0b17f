"""Figures and pages of evaluations. They draw what analysis found on disk; what needs weights is passed in."""
