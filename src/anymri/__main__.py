"""`python -m anymri` is `anymri`."""

from anymri.cli import main

main()
