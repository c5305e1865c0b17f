"""Commands, one per file: each parses its options, calls one function of anymri and prints the outcome."""
