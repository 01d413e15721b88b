"""The one category of warnings that flowcut raises."""


class FlowcutWarning(UserWarning):
    """Something went less well than asked: the message names cause and remedy."""
