"""The one error that a user's input causes."""


class InputError(ValueError):
    """A user handed in something unusable; the message gives the value and the way out."""
