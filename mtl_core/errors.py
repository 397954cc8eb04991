"""Every error this project raises on purpose, in one tree.

::

    MtlError                      what went wrong and what to do, in one line
    ├── InputError                a file, column or row given by the user
    ├── ModelError
    │   ├── UnknownModelError     no model of that name
    │   ├── UnknownTaskError      the model has no head of that name
    │   ├── UnknownScenarioError  no freezing scenario of that name
    │   └── BackboneError         a backbone is missing or is not the expected one
    ├── DataError                 training or evaluation data is missing or malformed
    ├── OutputError               the output folder cannot be used
    ├── JobError                  a job is unknown, or cannot do what was asked
    ├── SettingsError             a setting has a value that cannot be used
    └── LedgerUnreachableError    Redis does not answer

The message is for the user's eyes: what is wrong, where, what to do. ``exit_code`` is what
``mtl`` exits with when the error reaches the top (the table is in the README).
"""


class MtlError(Exception):
    """Base of all expected errors; its text is one line a user can act on."""

    exit_code = 2


class InputError(MtlError):
    """A file, column or row given by the user cannot be used."""


class ModelError(MtlError):
    """A model cannot be found, read or built."""


class UnknownModelError(ModelError):
    """No model of that name is registered."""


class UnknownTaskError(ModelError):
    """The model has no head of that name."""


class UnknownScenarioError(ModelError):
    """No freezing scenario of that name."""


class BackboneError(ModelError):
    """A backbone is missing, or its weights are not the expected ones."""


class DataError(MtlError):
    """Training or evaluation data is missing or malformed."""


class OutputError(MtlError):
    """The output folder cannot be used."""


class JobError(MtlError):
    """A job is unknown, has failed, or cannot do what was asked of it."""

    exit_code = 3


class SettingsError(MtlError):
    """A setting has a value that cannot be used."""


class LedgerUnreachableError(MtlError):
    """Redis does not answer."""

    exit_code = 4
