"""Examples of the documents and of the docstrings of the Python API: they run, on phantoms."""

import doctest
import re
import subprocess
import sys

import pytest

import anymri
from anymri.synthesis.phantoms import write_cohort
from documents import ROOT, blocks, prose

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("[!s]*/*.md"))]
# Those of tutorials run in order, in `test_tutorials.py`; that of the design is a sketch.
EXAMPLES = {
    f"{page.stem}-{number}": block.text
    for page in PAGES
    if page.parent.name != "tutorials" and page.stem != "design"
    for number, block in enumerate(each for each in blocks(page) if each.language == "python")
}
FUNCTIONS = [name for name in anymri.__all__ if name != "__version__"]
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with what the examples name: COHORT, TEST_COHORT, CASE and two scans of it, MASKS, RUN."""
    folder = tmp_path_factory.mktemp("documents")
    write_cohort(folder / "COHORT", 2, size=48)
    (folder / "TEST_COHORT").symlink_to(folder / "COHORT")
    cases = anymri.find_cases(folder / "COHORT")
    scans = cases[0].scans
    (folder / "CASE").symlink_to(scans["T1c"].parent)
    for modality in ("T1c", "FLAIR"):
        (folder / f"{modality.lower()}.nii.gz").symlink_to(scans[modality])
    (folder / "MASKS").mkdir()
    for case in cases:
        (folder / "MASKS" / f"{case.name}.nii.gz").symlink_to(case.label)
    anymri.train(
        "u_hved",
        folder / "COHORT",
        "brats2023",
        folder / "RUN",
        recipe="nano",
        cache=folder / "cache",
        epochs=1,
        steps_per_epoch=1,
        crop=16,
        batch_size=2,
        window_overlap=0,
        **{"network.width": 4},
    )
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """Run the test in a folder of its own with what the examples name."""
    for place in folder.iterdir():
        (tmp_path / place.name).symlink_to(place)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYMRI_CACHE", str(folder / "cache"))


@pytest.mark.filterwarnings("ignore:The weights starter")
@pytest.mark.parametrize("name", EXAMPLES)
def test_python_examples_of_documents_run(here, name):
    exec(compile(EXAMPLES[name], name, "exec"), {"__name__": name})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_api_have_an_example_that_runs(here, name):
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(anymri, name), name, globs={})
    assert any("anymri." in example.source for example in test.examples)
    report = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert failed == 0, "".join(report)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "list_systems"])
def test_functions_of_the_api_document_and_annotate_every_argument(name):
    function = getattr(anymri, name)
    code, annotated = function.__code__, function.__annotations__
    arguments = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"cls"}
    assert arguments <= annotated.keys() and "return" in annotated
    assert len((function.__doc__ or "").strip().splitlines()[0]) <= 120


def test_import_of_the_package_is_light_and_dir_lists_the_api():
    code = (
        "import sys; import anymri\n"
        "assert not {'torch', 'numpy', 'pandas', 'importlib.metadata', 'pathlib'} & set(sys.modules)\n"
        "assert dir(anymri) == sorted(anymri.__all__)\n"
        "assert 'mam' in anymri.list_systems()\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        "import anymri.api\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


def test_help_of_the_package_lists_its_functions():
    assert all(re.search(rf"^{name}  +\w", anymri.__doc__, re.MULTILINE) for name in FUNCTIONS)


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="segmnet"):
        anymri.segmnet  # noqa: B018


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *DOCS.rglob("*.md")], ids=lambda page: page.stem)
def test_links_of_documents_lead_to_files(page):
    for link in LINK.findall(prose(page)):
        assert (page.parent / link).exists(), link


def test_commands_and_options_of_documents_exist():
    from typer.main import get_command

    from anymri.cli.app import app

    commands = get_command(app).commands
    for file in PAGES:
        for line in re.findall(r"(?:^|-m |`)anymri ([a-z]+ [^`#\n]*)", file.read_text(encoding="utf-8"), re.MULTILINE):
            name, *words = line.split()
            assert name in commands, f"{file}: anymri {line}"
            command = commands[name]
            if hasattr(command, "commands"):
                assert words[0] in command.commands, f"{file}: anymri {line}"
                command = command.commands[words[0]]
            options = {word for each in command.params for word in (*each.opts, *each.secondary_opts)}
            used = {word for word in words if re.fullmatch(r"--?[a-z][a-z0-9-]*", word)}
            assert used <= options | {"--help"}, f"{file}: anymri {line}"


def test_the_readme_links_every_system():
    links = LINK.findall(prose(ROOT / "README.md"))
    systems = ROOT / "src" / "anymri" / "systems"
    for name in anymri.list_systems():
        if (systems / name).is_dir():
            assert f"src/anymri/systems/{name}/" in links


def test_documents_name_no_path_of_one_machine():
    for file in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]:
        assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work)/", file.read_text(encoding="utf-8")), file
