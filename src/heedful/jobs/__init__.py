"""Jobs: each stage of the life cycle wired to a run's folder. `heedful.lifecycle` puts them in order."""
