"""A module with a reward function, to be named as ``module:function``."""


def words(prompts, completions):
    """The number of words."""
    return [len(completion.split()) for completion in completions]
