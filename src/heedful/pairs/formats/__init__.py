"""How others keep preferences, one file per family. :mod:`heedful.pairs.convert` lists them by name."""
