import pytest

from anymri.errors import ModalityError
from anymri.modalities import MODALITIES, SUBSETS, Subset, nonempty_subsets, parse_modality

# The papers' table, columns FLAIR T1 T1c T2 (protocol sheet, section 6).
TABLE = [
    "0001",
    "0010",
    "0100",
    "1000",
    "0011",
    "0110",
    "1100",
    "0101",
    "1001",
    "1010",
    "1110",
    "1101",
    "1011",
    "0111",
    "1111",
]


def test_subsets_are_in_the_order_of_the_papers_tables():
    rows = ["".join(str(int(m in subset)) for m in ("FLAIR", "T1", "T1c", "T2")) for subset in SUBSETS]
    assert rows == TABLE


@pytest.mark.parametrize(
    ("word", "modality"),
    [("t1n", "T1"), ("T1w", "T1"), ("t1ce", "T1c"), ("T1Gd", "T1c"), ("ct1", "T1c"), ("t2w", "T2"), ("t2f", "FLAIR")],
)
def test_alias_gives_its_modality(word, modality):
    assert parse_modality(word) == modality


def test_unknown_modality_raises_an_error_with_the_closest_alias():
    with pytest.raises(ModalityError, match="flair"):
        parse_modality("flare")


def test_subset_is_parsed_in_any_order_and_printed_in_the_order_of_modalities():
    assert str(Subset.parse("flair, t1gd")) == "T1c+FLAIR"
    assert Subset.parse("FLAIR+T1c") == Subset.of(["T1c", "FLAIR"])


def test_subset_without_modalities_raises_an_error():
    with pytest.raises(ModalityError, match="no modality"):
        Subset.parse(" ")


def test_flags_and_tensor_follow_the_order_of_modalities():
    subset = Subset.parse("T1c+T2")
    assert subset.flags == (False, True, True, False)
    assert subset.as_tensor(3).tolist() == [list(subset.flags)] * 3


def test_subsets_are_all_fifteen_of_four_modalities():
    assert {tuple(m for m, f in zip(MODALITIES, flags, strict=True) if f) for flags in nonempty_subsets(4)} == {
        s.modalities for s in SUBSETS
    }
