"""The two ways in which a run can be refused."""


class CotrainError(Exception):
    """Anything that cotrain itself refuses or gives up on, with a sentence for the user."""


class InputError(CotrainError, ValueError):
    """What the user gave cannot be used; the message says what, where (file, row, column, learner) and what to do."""
