"""Rules that hold for the whole source; import-linter checks the direction of imports."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "anymri"
MODULES = {path.relative_to(SOURCE): path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}


def public_objects(node):
    """Yield the public classes, functions and methods of a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public_objects(child)


DOCSTRINGS = {
    f"{path}: {each.name}": ast.get_docstring(each)
    for path, text in MODULES.items()
    for each in public_objects(ast.parse(text))
}


def test_95_percent_of_public_objects_have_a_docstring():
    missing = [name for name, text in DOCSTRINGS.items() if not text]
    assert len(missing) <= 0.05 * len(DOCSTRINGS), missing


def test_docstrings_begin_with_a_line_that_is_a_sentence():
    lines = {name: text.splitlines()[0] for name, text in DOCSTRINGS.items() if text}
    for name, line in lines.items():
        assert any(letter.isupper() for letter in line.split()[0]), f"{name}: {line}"
        assert line.endswith((".", ":")), f"{name}: {line}"


def test_modules_begin_with_a_docstring():
    assert [path for path, text in MODULES.items() if text and not ast.get_docstring(ast.parse(text))] == []


def test_types_are_never_ignored():
    assert [path for path, text in MODULES.items() if "type: " + "ignore" in text] == []
