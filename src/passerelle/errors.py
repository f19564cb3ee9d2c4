"""What can go wrong, one base class: a docstring is its class's default message and says the next action.

Every message names what happened, with which value, and what to do next. The command line prints the
message alone and ends with ``exit_code``; no traceback reaches a user for an error that we foresaw.
"""

from __future__ import annotations

from typing import ClassVar


class PasserelleError(Exception):
    """Something went wrong that Passerelle foresaw; the message says what to do next."""

    #: What the command line ends with: 1 something failed, 2 wrong usage or settings, 3 refused by a check.
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class SettingsError(PasserelleError):
    """passerelle.toml cannot be used as it is: correct the line that is named and run the command again."""

    exit_code = 2


class MissingExtraError(PasserelleError):
    """A part that is not installed is needed: install the extra that is named."""

    exit_code = 2


class SchemaError(PasserelleError):
    """The rows do not fit the schema: correct the fields that are named."""

    exit_code = 3


class StateError(PasserelleError):
    """The project's state cannot be used: another process holds it, it is damaged, or a newer Passerelle made it."""


class DataError(PasserelleError):
    """A delivery cannot be read: look at the file that is named, then deliver it again."""

    exit_code = 3


class NotebookError(PasserelleError):
    """The notebook did not run to its end: open the executed copy that is named, correct the cell, train again."""


class KilledError(PasserelleError):
    """A process of ours was killed from outside, by somebody or for want of memory: free memory, and try again."""

    exit_code = 1


class KernelKilledError(KilledError, NotebookError):
    """The notebook's kernel was killed, by somebody or for want of memory: free memory, and train again."""


class SubmissionError(PasserelleError):
    """What the notebook submitted cannot be served as it stands: correct what is named and submit again."""

    exit_code = 3


class ParityError(PasserelleError):
    """Serving does not reproduce the notebook: the version was not made. Correct the column that is named."""

    exit_code = 3


class GateError(PasserelleError):
    """The candidate is worse than the champion by more than the gate allows: the version was not made."""

    exit_code = 3


class BundleError(PasserelleError):
    """A bundle is damaged, changed or not trusted: fetch it again, or trust its signer's key."""

    exit_code = 3


class RegistryError(PasserelleError):
    """The registry has no such version, or was made by a newer Passerelle: name another, or upgrade."""


class DeploymentError(PasserelleError):
    """The deployment was not changed: read the current revision and try again."""


class ScoringError(PasserelleError):
    """The model failed on these events: the prediction is recorded as failed, with the reason."""


class ScorerKilledError(KilledError, BundleError, ScoringError):
    """The model's process was killed, by somebody or for want of memory: free memory, and try again."""


class ScorerRestartingError(KilledError, TimeoutError):
    """The model's process was killed, and is not back by the deadline: try again."""


class ServingError(PasserelleError):
    """The endpoint cannot start: correct what is named and start it again."""


class LedgerError(PasserelleError):
    """The ledger cannot be read or written: free the disk or repair what is named; nothing was acknowledged."""


class StoreError(PasserelleError):
    """An object store cannot be read or written: see the address, the network and the permission that is named."""
