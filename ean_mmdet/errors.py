"""The one exception for what a user can put right."""


class InputError(ValueError):
    """A config, data set or checkpoint that cannot be used; the message says why and what would be right."""
