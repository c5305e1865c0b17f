"""The compiled scan, compared with the recurrence token by token and with torch's operators."""

import sys
import warnings
from contextlib import contextmanager

import pytest
import torch

from anymri.errors import AnymriWarning
from anymri.layers import compiled
from anymri.layers.compiled import usable
from anymri.layers.mamba import MambaFusion
from anymri.layers.scan_compiled import CONVOLVE, DIFFERENTIATE, SCAN, STEPS
from anymri.layers.selective_scan import selective_scan
from recurrence import (
    assert_close,
    needs_numba,
    outputs_and_gradients,
    random_inputs,
    recurrence,
    small_chunks,
    without_numba,
)

SOME = torch.tensor([[True, False, True, False], [False, True, True, True]])


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@needs_numba
def test_float32_on_a_cpu_is_compiled_and_float64_is_not():
    tokens = torch.zeros(1)
    assert usable(tokens, SCAN, CONVOLVE, DIFFERENTIATE)
    assert not usable(tokens.double(), SCAN)


# Less than a vector of tokens, a little more, and two chunks of which the last is short.
@pytest.mark.parametrize(
    ("group", "samples", "length", "count"),
    [(1, 1, 1, 2), (1, 1, 15, 1), (1, 1, 17, 2), (1, 2, STEPS + 9, 1), (5, 2, 1, 2), (5, 1, STEPS // 5 + 9, 1)],
)
@pytest.mark.parametrize(("channels", "numbers"), [(16, 8), (19, 18)])
@needs_numba
def test_compiled_scan_equals_the_recurrence(group, samples, length, count, channels, numbers):
    inputs = random_inputs(length, group, samples, channels, numbers)
    expected = outputs_and_gradients(recurrence, inputs)
    with threads(count):
        assert_close(outputs_and_gradients(selective_scan, inputs, torch.float32), expected, 1e-5)


@needs_numba
def test_compiled_gradients_without_outputs_equal_those_of_the_recurrence():
    u, delta, A, B, C, state = random_inputs(50, group=2)
    inputs = [u, delta, A, B, state]
    found = outputs_and_gradients(lambda *i: selective_scan(*i[:4], None, i[4])[1:], inputs, torch.float32)
    assert_close(found, outputs_and_gradients(lambda *i: recurrence(*i[:4], C, i[4])[1:], inputs), 1e-5)


@needs_numba
def test_compiled_scan_over_many_tokens_loses_no_precision():
    """The slowest channel remembers a million tokens: errors of single factors would add up."""
    inputs = [each.float() for each in random_inputs(100_000, channels=4, numbers=2)]
    inputs[1] *= 1e-2
    with torch.inference_mode():
        found = selective_scan(*inputs)
        assert_close(found, selective_scan(*(each.double() for each in inputs)), 1e-4)


@needs_numba
def test_compiled_scan_keeps_a_state_for_no_time_and_clears_it_in_a_long_time():
    u, delta, A, B, C, state = (each.float() for each in random_inputs(500))
    for time, expected in ((0.0, state), (1e4, torch.zeros_like(state))):
        y, last = selective_scan(torch.zeros_like(u), torch.full_like(delta, time), A, B, C, state)
        assert y.isfinite().all()
        torch.testing.assert_close(last, expected, rtol=0, atol=1e-30)


@needs_numba
def test_compiled_scan_does_not_hide_nan():
    inputs = [each.float() for each in random_inputs(20)]
    inputs[1][..., 10] = torch.nan
    y, last = selective_scan(*inputs)
    assert y[..., :10].isfinite().all() and y[..., 10:].isnan().all() and last.isnan().all()


# More voxels than a convolution processes at a time.
@pytest.mark.parametrize(("voxels", "count"), [(600, 1), (23, 2)])
@pytest.mark.parametrize("interleaved", [True, False], ids=["interleaved", "concatenated"])
@needs_numba
def test_compiled_fusion_equals_that_of_torch(voxels, count, interleaved):
    torch.manual_seed(0)
    fusion = MambaFusion(9, voxels, interleaved)
    with torch.inference_mode():
        # Some steps of a few hundred, some of almost zero.
        fusion.mamba.dt_proj.weight.mul_(100)
        projected = torch.stack([fusion.project(torch.randn(2, 9, voxels)) for _ in range(4)], dim=1)

        def fused():
            return fusion(projected, fusion.fused(), SOME)

        with without_numba():
            expected = fused()
        with threads(count):
            torch.testing.assert_close(fused(), expected, rtol=1e-5, atol=1e-5)
            with small_chunks():
                torch.testing.assert_close(fused(), expected, rtol=1e-5, atol=1e-5)


@needs_numba
@pytest.mark.usefixtures("not_compiled_yet")
def test_error_of_numba_falls_back_to_torch_with_a_warning(monkeypatch):
    def fail(name):
        raise RuntimeError("no locator available for file\nmore")

    monkeypatch.setattr(compiled, "import_module", fail)
    inputs = [each.float() for each in random_inputs(20)]
    with pytest.warns(
        AnymriWarning, match=r"slowly: no locator available for file\. Install .*anymri\[fast\]"
    ) as caught:
        found = selective_scan(*inputs)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(selective_scan(*inputs), found, rtol=0, atol=0)
    with without_numba():
        torch.testing.assert_close(selective_scan(*inputs), found, rtol=0, atol=0)


@pytest.mark.usefixtures("not_compiled_yet")
def test_missing_numba_falls_back_to_torch_with_a_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(AnymriWarning, match=r"numba.* Install .*anymri\[fast\]"):
        assert not usable(torch.zeros(1), SCAN)


@needs_numba
@pytest.mark.usefixtures("not_compiled_yet")
def test_disabled_compilation_falls_back_to_torch(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.warns(AnymriWarning, match="NUMBA_DISABLE_JIT"):
        assert not usable(torch.zeros(1), SCAN)


@needs_numba
@pytest.mark.usefixtures("not_compiled_yet")
def test_cache_folder_that_cannot_be_written_falls_back_to_torch(monkeypatch):
    from numba.core.caching import CacheImpl

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    with pytest.warns(AnymriWarning, match=r"cannot cache function .*\. Set NUMBA_CACHE_DIR"):
        assert not usable(torch.zeros(1), SCAN)
