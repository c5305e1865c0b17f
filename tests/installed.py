"""Packages as if they were installed, without pip."""

import tomllib


def install(package, folder):
    """Write the metadata of a package into a folder, which belongs on the module path beside the package.

    package  folder with pyproject.toml
    """
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}")
    groups = project["entry-points"].items()
    entries = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()) for group, points in groups]
    (metadata / "entry_points.txt").write_text("\n".join(entries))
