"""Lanes: what they compute, which are allowed for which weights, and what `auto` takes."""

import json
from dataclasses import replace

import pytest
import torch

import anymri
from anymri.errors import ConfigurationError
from anymri.evaluation.runner import evaluate
from anymri.inference import lanes
from anymri.inference.ensemble import Ensemble
from anymri.inference.lanes import cached
from anymri.inference.lanes.check import Verdict, check_case, compare
from anymri.inference.segmenter import Segmenter
from anymri.inference.windows import predict
from anymri.modalities import ALL, Subset
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.contract import Computation
from anymri.weights.folders import STARTERS
from untrained import card, prepared, write_weights

STARTER = STARTERS / "starter.safetensors"
GOOD = Verdict(True, "it agrees", 2.0)
HAS_UNITS = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A CPU with instructions for bfloat16, without OpenVINO, and an empty cache folder, which is returned."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("anymri.inference.lanes.openvino.find_spec", lambda name: None)
    monkeypatch.setenv("ANYMRI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", reconstruction=True)


@pytest.fixture
def verdicts(monkeypatch):
    """Verdicts by lane in place of comparisons; the weights of each call are added to the list `calls`."""
    found = {"calls": []}

    def verdict_of(lane, system, card, checksum, computation):
        found["calls"].append(checksum)
        return found.get(lane, GOOD)

    monkeypatch.setattr(cached, "verdict_of", verdict_of)
    return found


def test_bfloat16_is_close_to_float32_but_not_equal(weights, verdicts):
    case = prepared(torch.randn(4, 32, 32, 32, generator=torch.Generator().manual_seed(0)))
    subsets = [ALL, Subset.parse("T2")]
    exact = Segmenter.load(weights, "cpu").predict(case, subsets, reconstruct=True)
    found = Segmenter.load(weights, "cpu", "torch-bf16").predict(case, subsets, reconstruct=True)
    for one, other in zip(exact, found, strict=True):
        assert other.probabilities.dtype == torch.float32
        assert 0 < (other.probabilities - one.probabilities).abs().mean() < 0.02
    assert found[1].reconstructed["T1"].dtype == torch.float32


def test_encodings_in_bfloat16_can_be_kept_on_disk(weights, verdicts):
    segmenter = Segmenter.load(weights, "cpu", "torch-bf16")
    case = prepared(torch.randn(4, 48, 32, 32, generator=torch.Generator().manual_seed(0)))
    [direct] = segmenter.predict(case, [ALL])
    with segmenter.encode(case, memory_limit=0) as encoded:
        torch.testing.assert_close(encoded.decode(ALL).probabilities, direct.probabilities)


@pytest.mark.skipif(not HAS_UNITS, reason="this CPU emulates bfloat16, which takes minutes per window")
def test_starter_weights_are_allowed_in_bfloat16_and_the_verdict_is_kept(machine, monkeypatch):
    assert anymri.load(STARTER, "cpu", "torch-bf16").lane.name == "torch-bf16"
    [kept] = (machine / "lanes").iterdir()
    record = json.loads(kept.read_text())
    assert record["allowed"] and record["key"]["lane"] == "torch-bf16"
    monkeypatch.setattr(cached, "compare", None)
    assert anymri.load(STARTER, "cpu", "torch-bf16").lane.why == record["finding"]


def test_weights_that_depart_from_float32_are_refused(weights):
    with pytest.raises(ConfigurationError, match=r"torch-bf16 does not fit these weights.*Dice 0\.") as refused:
        anymri.load(weights, "cpu", "torch-bf16")
    assert "lane torch" in refused.value.fix
    assert anymri.load(weights, "cpu", "auto").lane.name == "torch"


@pytest.mark.parametrize("content", ["", "[]", '{"allowed": true}', '{"allowed": true, "finding": "", "speed": "x"}'])
def test_a_damaged_verdict_is_replaced(machine, monkeypatch, weights, content):
    monkeypatch.setattr(cached, "compare", lambda *_: GOOD)
    anymri.load(weights, "cpu", "torch-bf16")
    [kept] = (machine / "lanes").iterdir()
    kept.write_text(content)
    assert anymri.load(weights, "cpu", "torch-bf16").lane.why == GOOD.finding
    assert json.loads(kept.read_text())["finding"] == GOOD.finding


def test_a_cache_that_cannot_be_written_costs_only_the_comparison(machine, monkeypatch, weights):
    machine.write_text("not a folder")
    compared = []
    monkeypatch.setattr(cached, "compare", lambda *_: compared.append(1) or GOOD)
    for _ in range(2):
        assert anymri.load(weights, "cpu", "torch-bf16").lane.name == "torch-bf16"
    assert len(compared) == 2


def test_a_verdict_is_for_one_machine_and_one_version(machine, monkeypatch, weights):
    monkeypatch.setattr(cached, "compare", lambda *_: GOOD)
    for change in ({}, {"machine": lambda device: "another"}, {"__version__": "9"}):
        for name, value in change.items():
            monkeypatch.setattr(cached, name, value)
        anymri.load(weights, "cpu", "torch-bf16")
    assert len(list((machine / "lanes").iterdir())) == 3


def test_a_cpu_without_the_instructions_is_refused_and_auto_stays_in_float32(weights, verdicts, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(ConfigurationError, match="no instructions for bfloat16"):
        anymri.load(weights, "cpu", "torch-bf16")
    lane = anymri.load(weights, "cpu", "auto").lane
    assert lane.name == "torch" and "no other lane" in lane.why


def test_a_network_that_a_lane_cannot_compute_is_refused_in_it_and_left_out_by_auto(weights, monkeypatch):
    def fail(*_):
        raise ConfigurationError("It cannot be a graph.", "Use torch.")

    monkeypatch.setattr(cached, "compare", fail)
    with pytest.raises(ConfigurationError, match=r"torch-bf16 does not fit these weights: It cannot be a graph\."):
        anymri.load(weights, "cpu", "torch-bf16")
    assert "It cannot be a graph" in anymri.load(weights, "cpu", "auto").lane.why


def test_an_unknown_lane_is_refused_with_the_known_ones(weights):
    with pytest.raises(ConfigurationError, match=r"no lane named 'torch-bf17'.*\n.*Did you mean torch-bf16"):
        anymri.load(weights, "cpu", "torch-bf17")


@pytest.mark.parametrize(
    ("verdict", "taken", "why"),
    [
        (GOOD, "torch-bf16", "2.0 times as fast as torch"),
        (replace(GOOD, speed=1.5), "openvino", "1.8 times as fast as torch"),
        (replace(GOOD, speed=1.05), "torch", "1.1 times as fast"),
        (replace(GOOD, allowed=False, finding="ET differs"), "torch", "torch-bf16: ET differs"),
    ],
)
def test_auto_takes_the_fastest_lane_that_is_allowed_and_says_why(weights, verdicts, verdict, taken, why, monkeypatch):
    monkeypatch.setattr("anymri.inference.lanes.openvino.find_spec", lambda name: name)
    verdicts["torch-bf16"] = verdict
    verdicts["openvino"] = replace(GOOD, speed=1.8 if taken == "openvino" else 0.5)
    lane = anymri.load(weights, "cpu", "auto").lane
    assert lane.name == taken and why in lane.why


def test_float32_is_not_compared_with_itself(weights, verdicts):
    assert anymri.load(weights, "cpu").lane == lanes.DEFAULT and not verdicts["calls"]


def test_a_computation_that_returns_nan_is_refused(weights):
    class Broken(Computation):
        def decode(self, *arguments):
            prediction = super().decode(*arguments)
            prediction.logits = prediction.logits * torch.nan
            return prediction

    segmenter = anymri.load(weights, "cpu")
    assert not compare(segmenter.system, segmenter.card, Broken()).allowed


@pytest.mark.parametrize("changes", [{}, {"window": (64, 48, 32)}, {"window": 16}])
def test_the_case_of_the_comparison_is_one_window(weights, changes):
    segmenter = anymri.load(weights, "cpu")
    windows = card(**changes).window
    case = check_case(card(**changes), windows)
    assert all(side <= window for side, window in zip(case.images.shape[1:], windows, strict=True))
    assert case.classes.unique().tolist() == [0, 1, 2, 3]
    assert len(predict(segmenter.system, case, [ALL], segmenter.windows)) == 1


def test_results_name_the_lane(weights, verdicts, tmp_path):
    write_cohort(tmp_path / "cohort", 2, size=32)
    case = sorted(path for path in (tmp_path / "cohort").iterdir() if path.is_dir())[0]
    segmenter = anymri.load(weights, "cpu", "torch-bf16")
    segmenter.segment(case, output=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["device"] == "cpu, torch-bf16"
    evaluate(segmenter, tmp_path / "cohort", tmp_path / "evaluation", subsets=["T2"], metrics=["dice"])
    record = json.loads((tmp_path / "evaluation" / "provenance.json").read_text())
    assert record["device"] == "cpu, torch-bf16" and record["configuration"]["lane"] == "torch-bf16"


def test_members_of_an_ensemble_choose_their_own_lanes(weights, verdicts, tmp_path):
    other = write_weights(tmp_path / "other.safetensors", seed=1)
    model = Ensemble.load([weights, other], "cpu", "auto")
    assert len(set(verdicts["calls"])) == 2 and model.lane.name == "torch-bf16"


def test_ray_refuses_to_choose_a_lane(weights, tmp_path):
    with pytest.raises(ConfigurationError, match="ray"):
        anymri.segment_cohort(tmp_path, tmp_path / "out", weights, engine="ray", lane="auto")
