import pytest

from anymri.errors import MissingExtraError
from anymri.extras import need


def test_installed_modules_are_enough():
    need("train", "json", "pathlib")


def test_missing_modules_raise_an_error_with_the_install_command():
    with pytest.raises(MissingExtraError) as refused:
        need("studio", "json", "not_a_module", "nor_this_one")
    assert "not_a_module, nor_this_one" in refused.value.what
    assert refused.value.fix == "Install it: pip install 'anymri[studio]'"
