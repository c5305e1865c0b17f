import tomllib
from pathlib import Path

import pytest

from anymri.errors import MissingExtraError
from anymri.extras import EXTRAS, need


def test_installed_modules_are_enough():
    need("train", "json", "pathlib")


def test_missing_modules_raise_an_error_with_the_install_command():
    with pytest.raises(MissingExtraError) as refused:
        need("studio", "json", "not_a_module", "nor_this_one")
    assert "not_a_module, nor_this_one" in refused.value.what
    assert refused.value.fix == "Install it: pip install 'anymri[studio]'"


def test_every_extra_of_the_package_is_known():
    file = Path(__file__).parents[1] / "pyproject.toml"
    declared = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert EXTRAS.keys() == declared.keys() - {"all", "bench", "dev", "docs"}
