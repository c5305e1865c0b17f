"""Configurations and text that are hostile or wrong: one sentence, no expansion, no markup."""

import time

import pytest

from anymri.errors import ConfigurationError
from anymri.text import shown, visible
from anymri.training import plain_yaml
from anymri.training.configuration import resolve
from anymri.training.fields import read_yaml
from cli.command import anymri, check_refused

LAUGHS = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
REFUSED = {
    "aliases": (LAUGHS, "anchor or alias"),
    "alias to itself": ("&a [*a]", "anchor or alias"),
    "tag of Python": ("!!python/object/apply:os.system [ls]", "tag"),
    "own tag": ("a: !x y", "tag"),
    "deep nesting": ("[" * 40_000, "nested"),
    "open bracket": ("a: [1, 2", "line 1, column 9"),
    "tab": ("a:\n\tb: 1", "line 2"),
    "two documents": ("--- 1\n--- 2", "line 2"),
    "key twice": ("a: 1\nb: 2\na: 3", "line 1 and in line 3"),
    "number as key": ("1: 2", "not text"),
    "list as key": ("? [a]\n: b", "not text"),
    "infinity": ("a: -.inf", "not finite"),
    "NaN": ("a: .NaN", "not finite"),
    "overflow": ("a: 1e999", "not finite"),
    "huge integer": ("a: " + "9" * 5000, "too large"),
    "NUL": ("a: \x00", "characters"),
    "large text": ("a: " + "b" * plain_yaml.LARGEST_TEXT, "more than"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_yaml_that_is_not_plain_is_refused_with_the_reason(text, reason, tmp_path):
    began = time.process_time()
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(
        ConfigurationError, match=rf"config\.yaml cannot be read as YAML, because .*{reason}"
    ) as refused:
        read_yaml(file)
    assert len(refused.value.what) < 300 + len(str(file)) and time.process_time() - began < 2


@pytest.mark.parametrize("content", [b"a: \xff", "a: 1".encode("utf-16")])
def test_text_in_another_encoding_is_refused(content, tmp_path):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match="not text in UTF-8"):
        read_yaml(tmp_path / "config.yaml")


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "config.yaml").write_bytes("\ufeffa: 1".encode())
    assert read_yaml(tmp_path / "config.yaml") == {"a": 1}


def test_numbers_that_only_yaml_1_1_knows_are_text():
    assert plain_yaml.read("[1:30, 010, 0x10, 1_000, 2024-99-99]") == ["1:30", "010", "0x10", "1_000", "2024-99-99"]


def test_values_are_written_as_they_are_read():
    shared = ["1e-3", "yes", "1:30", "2024-01-01", "~", "", ".inf", "=", "\x1b", None, True, 1.5e-5, 1e-3, 10**15, 1e22]
    values = {"a": shared, "b": {"c": shared, "<<": "*a"}}
    text = plain_yaml.write(values)
    assert plain_yaml.read(text) == values and "&" not in text.replace("'*a'", "")


@pytest.mark.parametrize(
    "assignment",
    [
        "optimiser.learning_rate=.inf", "optimiser.learning_rate=nan", "optimiser.learning_rate='nan'", "epochs=1:30",
        "optimiser.learning_rate=0", "optimiser.momentum=-1", "optimiser.clip_norm=1e999", "network.width=1000000000",
        "network.width=-1", "network.width=16384", "network.width=[1]", "network.width={a: {b: {c: 1}}}",
        "network.reconstruction=maybe", "crop=1000000", "batch_size=1000000000", "copies=1000000", "accumulate=10000",
        "epochs=10000000000", "steps_per_epoch=99999999999999999999", "window_overlap=0.999999", "seed=-1",
        "seed=4294967296", "stages=1", "split.folds=1000000000", "split.train=~nobody-here/list.csv",
        "subsets=~nobody-here/list.csv", "validation_epochs=[0]", "missing=.nan", "missing={T1: 2}", "a" * 10_000,
        "=1", ".=1", ".".join("abcdefghijklmnopqrstuvwxyz") + "=1", "seed=&a 1", "epochs=[" + "1," * 1_000 + "]",
    ],
)  # fmt: skip
def test_an_assignment_of_nonsense_is_refused_in_a_short_sentence(assignment):
    began = time.process_time()
    with pytest.raises(ConfigurationError) as refused:
        resolve(
            "u_hved",
            "nano",
            {"data": "somewhere", "label_scheme": "brats2023"},
            assignments=[assignment, "validation_share=0"],
        )
    assert "\n" not in refused.value.what and len(refused.value.what) < 500 and time.process_time() - began < 2


def test_text_of_errors_is_short_and_without_control_characters():
    nested = ["lol"] * 10
    for _ in range(30):
        nested = [nested] * 10
    assert len(shown(nested)) <= 80 and len(shown("x" * 10**6)) <= 80
    assert shown(10**5000) == "a number of type int"
    assert visible("a\x1b[31m\u202e\r\udcff\nb") == "a\\x1b[31m\\u202e\\r\\udcff\nb"


@pytest.mark.parametrize("name", ["a[/b]", "[red]x", ":smile:", "a\x1b[31mb"])
def test_a_folder_whose_name_looks_like_markup_is_printed_as_it_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = anymri("phantom", "-n", 1, "--size", 48, "-o", name)
    assert result.returncode == 0, result.stderr
    assert f"Cases in {visible(name)}: 1;" in result.stdout and "\x1b" not in result.stdout


@pytest.mark.parametrize("name", ["[/x]", "x\x1b]0;title\x07"])
def test_errors_print_names_as_they_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (
        ["systems", name],
        ["recipe", "u_hved", "--recipe", name],
        ["recipe", "u_hved", "--set", name],
        ["evaluate", name, "--data", "cohort", "-o", "out"],
        ["convert", name, "-o", "out"],
        ["train", "u_hved", "--config", name, "-o", "out"],
        ["plot", name, "-o", "out"],
    ):
        result = anymri(*command)
        check_refused(result)
        assert visible(name) in result.stderr and "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["-n", "0"], ["-n", "1000000000"], ["-n", "nan"], ["--seed", "-1"], ["--seed", str(2**64)], ["--size", "100000"]],
)
def test_numbers_of_a_command_are_bounded(arguments, tmp_path):
    result = anymri("phantom", *arguments, "-o", tmp_path / "out")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
