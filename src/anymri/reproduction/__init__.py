"""`anymri reproduce`: a system's recipe `reference` on its data set, tested as its authors do, beside their numbers."""
