"""Tests for systems of other packages; needs pytest."""

import pytest

# The laws are written with plain asserts, which pytest explains only in test modules and in those named here.
pytest.register_assert_rewrite("anymri.testing.laws")
