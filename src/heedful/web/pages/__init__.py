"""Pages for people, one file per group; what each shows stands in ``templates``."""
