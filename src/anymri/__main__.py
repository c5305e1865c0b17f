"""Entry point of `python -m anymri`, which is the command `anymri`."""

from anymri.cli import main

main()
