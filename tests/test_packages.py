"""Files of the packages: metadata, pages in the wheel, locked requirements, licences, containers, workflows."""

import importlib.util
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

import anymri
import extras
from anymri import _version
from notice import locked

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
PAGE = re.compile(r"docs/[a-z_-]+(?:\.md)?")
README = """# x
![picture](docs/images/a.png)

[page](docs/page.md), [site](https://example.org), [part](#x), <img src="docs/b.png" alt="">

[![badge](docs/c.svg)](docs/badge.md) <a href="docs/d.md">html</a>
"""


def links(markdown):
    """Return the addresses of the links and pictures of a page as HTML shows them."""
    html = MarkdownIt("commonmark", {"html": True}).render(markdown)
    return re.findall(r'(?:src|href)="([^"]*)"', html)


@pytest.fixture(scope="module")
def hook():
    """Return the module that the build runs for metadata."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_of_the_packaged_readme_lead_to_the_repository(hook):
    assert links(hook.readme(README, "https://example.org/r")) == [
        "https://example.org/r/raw/HEAD/docs/images/a.png",
        "https://example.org/r/blob/HEAD/docs/page.md",
        "https://example.org",
        "#x",
        "https://example.org/r/raw/HEAD/docs/b.png",
        "https://example.org/r/blob/HEAD/docs/badge.md",
        "https://example.org/r/raw/HEAD/docs/c.svg",
        "https://example.org/r/blob/HEAD/docs/d.md",
    ]


def test_without_an_address_the_packaged_readme_has_no_link_to_a_file(hook):
    text = hook.readme(README, "")
    assert links(text) == ["https://example.org"] and "page" in text and "html" in text


@pytest.mark.parametrize("repository", ["", "https://example.org/r/"])
def test_one_variable_sets_all_addresses_of_the_package(hook, repository):
    fields = {}
    hook.Metadata(str(ROOT), {"repository": repository}).update(fields)
    assert ("urls" in fields) is bool(repository)
    found = [*links(fields["readme"]["text"]), *fields.get("urls", {}).values()]
    assert all(address.startswith(("https://", "#")) and "r//" not in address for address in found)
    assert "repository" in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]


def test_pages_that_the_program_names_travel_in_the_wheel():
    packaged = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    named = {
        page
        for file in (ROOT / "src").rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
        for page in PAGE.findall(line)
    }
    assert "docs/performance.md" in named and "docs/sheets" in named
    assert named <= packaged.keys()
    assert all((ROOT / source).exists() and target == f"anymri/{source}" for source, target in packaged.items())


def test_every_extra_has_a_smallest_use():
    assert extras.USES.keys() == {"core", *extras.extras()}


def test_the_core_does_not_need_what_belongs_to_extras():
    core = {re.split(r"[<>=\[]", each)[0].lower() for each in PROJECT["project"]["dependencies"]}
    assert not core & {"lightning", "monai", "tensorboard", "pandas", "matplotlib", "jinja2", "simpleitk", "pydicom"}


@pytest.mark.parametrize("name", ["cpu.txt", "cuda.txt"])
def test_every_locked_package_has_a_version_and_a_hash(name):
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", text.partition("\n")[2].partition("\n")[2])
    assert len(entries) > 50
    assert all(re.match(r"[a-z0-9._-]+==\S+", each) and "--hash=sha256:" in each for each in entries)
    assert "://" not in text  # no address of an index


def test_locked_versions_are_those_of_the_constraints():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", constraints, re.MULTILINE))
    for name in ("cpu.txt", "cuda.txt"):
        lines = re.findall(r"^([a-z0-9._-]+)==([^\s+]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
        found = [(package, version) for package, version in lines if package in pinned]
        assert len(found) > 20
        assert all(version == pinned[package] for package, version in found)


def test_direct_dependencies_are_locked():
    project = PROJECT["project"]
    chosen = re.search(r"\[(.*)\]", project["optional-dependencies"]["all"][0])[1].split(",")
    wanted = [*project["dependencies"], *(each for extra in chosen for each in project["optional-dependencies"][extra])]
    names = {re.split(r"[<>=\[]", each)[0].lower() for each in wanted} - {"anymri"}
    for name in ("cpu.txt", "cuda.txt"):
        assert names <= set(locked(name))


def notice_rows():
    """Return package -> (what needs it, licence) of NOTICE."""
    rows = re.findall(r"^([a-z0-9._-]+) +(core|[a-z-]+)  +(\S.*)$", (ROOT / "NOTICE").read_text(), re.MULTILINE)
    return {package: (group, licence) for package, group, licence in rows}


def test_notice_lists_every_locked_package():
    text, rows = (ROOT / "NOTICE").read_text(encoding="utf-8"), notice_rows()
    assert rows.keys() == set(locked("cpu.txt"))
    assert all(re.search(rf"^{re.escape(name)}$", text, re.MULTILINE) for name in set(locked("cuda.txt")) - rows.keys())


def test_the_core_has_no_copyleft_dependency_and_no_package_is_under_the_gpl():
    for package, (group, licence) in notice_rows().items():
        assert not re.search(r"(?<!L)GPL", licence), package
        assert group != "core" or "GPL" not in licence, package


def stages():
    """Return the name of each stage of the Dockerfile -> its lines."""
    parts = re.split(r"^FROM (?=\S)", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {part.split()[2]: part.splitlines() for part in parts}


def test_images_do_not_run_as_root():
    for name in ("cpu", "gpu"):
        users = [line.split()[1] for line in stages()[name] if line.startswith("USER")]
        assert users and users[-1].split(":")[0] not in ("0", "root")
        lines = stages()[name]
        assert not any(line.startswith("RUN") for line in lines[[line[:4] for line in lines].index("USER") :])


def test_images_install_locked_requirements_only():
    for name in ("cpu", "gpu"):
        installs = [line for line in stages()[name] if "pip install" in line]
        assert all("--require-hashes" in line or "--no-deps" in line for line in installs) and len(installs) == 2


def test_base_images_have_a_version():
    definition = (ROOT / "containers" / "anymri.def").read_text(encoding="utf-8")
    bases = re.findall(r"^(?:ARG PYTHON_IMAGE=|From: )(\S+)", DOCKERFILE + definition, re.MULTILINE)
    assert len(bases) == 2
    assert all(":" in base and not base.endswith(":latest") for base in bases)


def test_files_that_images_and_the_definition_copy_exist():
    definition = (ROOT / "containers" / "anymri.def").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    copied += re.findall(r"^ +LOCK=(\S+)", definition, re.MULTILINE)
    assert len(copied) == 4 and all((ROOT / each).exists() for each in copied if each != ".git")
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all(each.split("/")[0] in sent for each in copied)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_grant_nothing_by_default_and_name_versions_of_actions(file):
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow[True]  # YAML reads the key `on` as a boolean
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions and all(re.search(r"@(v\d|release/v\d|[0-9a-f]{40})", action) for action in actions)
    # No text that others write, such as the title of a change, becomes part of a command.
    assert not any("${{" in step.get("run", "") for step in steps)


def test_publishing_needs_the_switch_of_the_maintainer_and_no_password():
    publish = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"]["publish"]
    assert "vars.PUBLISH == 'true'" in publish["if"] and publish["needs"] == "build"
    assert "secrets." not in str(publish)


def test_tests_run_on_three_operating_systems():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    systems = {jobs["linux"]["runs-on"], *jobs["others"]["strategy"]["matrix"]["os"]}
    assert {system.partition("-")[0] for system in systems} == {"ubuntu", "macos", "windows"}


def test_the_version_is_that_of_the_installation_and_sources_alone_have_none(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    assert anymri.__version__ == metadata.version("anymri")
    with monkeypatch.context() as change:
        change.setattr(metadata, "version", missing)
        assert importlib.reload(_version).__version__ == "0+unknown"
    importlib.reload(_version)
