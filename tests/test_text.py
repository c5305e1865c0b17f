"""Text for messages."""

import pytest

from anymri.text import count


@pytest.mark.parametrize(("number", "text"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (1250, "1,250 cases")])
def test_a_number_has_its_noun_in_the_plural_where_needed(number, text):
    assert count(number, "case") == text
