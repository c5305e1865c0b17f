"""Commands killed at every rename of a file: run again, they end with the files of the uninterrupted command."""

import pytest
import torch

from cli.command import TRAINING, anymri, check_refused
from parity import reference
from robustness.killing import CHANGES, KILLED, RENAMES, content, killed
from untrained import write_weights

# Renames, and in the long test also folders and deletions: (calls, after the call instead of before it).
SHORT = [(RENAMES, False)]
LONG = [(CHANGES, False), (CHANGES, True)]
WAYS = [pytest.param(SHORT, id="renames"), pytest.param(LONG, id="changes", marks=pytest.mark.acceptance)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with two cases in `data`, weights, and an authors' checkpoint."""
    folder = tmp_path_factory.mktemp("place")
    assert anymri("phantom", "-n", 2, "--size", 48, "-o", folder / "data").returncode == 0
    write_weights(folder / "w.safetensors")
    state = reference.reference_state(reference.load("u_hved"))
    torch.save({"state_dict": state}, folder / "authors.pth")
    return folder


def kill_everywhere(folder, ways, command, again=None, skipped=()):
    """Kill a command at every call, run it again and compare; return how many kills there were.

    command  output folder -> arguments
    again    output folder -> arguments of the second run, if they are others
    skipped  numbers of calls without a kill
    """
    assert anymri(*command(folder / "whole")).returncode == 0
    expected = content(folder / "whole")
    kills = 0
    for calls, after in ways:
        number = 0
        while True:
            number += 1
            if number in skipped:
                continue
            output = folder / f"{'after' if after else 'before'}-{number}"
            code = killed(command(output), output, number, calls, after)
            if code != KILLED:
                assert code == 0
                break
            finished = anymri(*(again or command)(output))
            assert finished.returncode == 0, (number, finished.stderr)
            assert content(output) == expected, number
            kills += 1
    return kills


@pytest.mark.parametrize("ways", WAYS)
def test_a_killed_training_continues_to_the_same_weights_and_logs(place, tmp_path, ways):
    """Two stages, the second with validation; the cache is new and beside the run, so that it counts too."""
    settings = ("split.folds=2", "whole.validation_epochs=1", "network.width=2")
    data = ["--data", place / "data", *TRAINING, *(word for each in settings for word in ("--set", each))]

    def command(output):
        return ["train", "u_hved", *data, "--cache", output / "cache", "-o", output / "run"]

    def again(output):
        new, resume = command(output), ["train", "--resume", "-o", output / "run"]
        if (output / "run" / "config.yaml").exists():
            check_refused(anymri(*new), "--resume")
            return resume
        check_refused(anymri(*resume), "Start one")
        return new

    # Of two cases, and of two stages, the same renames are tried once in the short test.
    skipped = (1, 10, 11, 12, 14) if ways is SHORT else ()
    assert kill_everywhere(tmp_path, ways, command, again, skipped) >= 12


@pytest.mark.parametrize("ways", WAYS)
def test_a_killed_evaluation_continues_to_the_same_tables(place, tmp_path, ways):
    chosen = ["--data", place / "data", "--subsets", "FLAIR", "--metrics", "dice,ece"]
    command = lambda output: ["evaluate", place / "w.safetensors", *chosen, "-o", output]
    assert kill_everywhere(tmp_path, ways, command) >= 7


@pytest.mark.parametrize("ways", WAYS)
def test_a_killed_segmentation_is_written_again(place, tmp_path, ways):
    case = place / "data" / "PHANTOM-00000-000"
    command = lambda output: ["segment", case, "--weights", place / "w.safetensors", "-o", output]
    assert kill_everywhere(tmp_path, ways, command) >= 3


@pytest.mark.parametrize("ways", WAYS)
def test_a_killed_phantom_is_written_again(place, tmp_path, ways):
    command = lambda output: ["phantom", "-n", 1, "--size", 48, "-o", output]
    assert kill_everywhere(tmp_path, ways, command) >= 7


@pytest.mark.parametrize("ways", WAYS)
def test_a_killed_conversion_is_written_again(place, tmp_path, ways):
    command = lambda output: ["convert", place / "authors.pth", "-o", output / "w.safetensors"]
    assert kill_everywhere(tmp_path, ways, command) >= 1
