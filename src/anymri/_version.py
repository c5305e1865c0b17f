"""Version of the installed package, which the build takes from the tag of the repository."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("anymri")
except PackageNotFoundError:  # the sources are on the path and were not installed
    __version__ = "0+unknown"
