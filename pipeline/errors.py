"""What a user reads when something is wrong, and the exit code that a script reads."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    BUG = 1
    """Our own fault: the traceback is the message."""
    USER_ERROR = 2
    """The user can put it right; nothing was started."""
    STAGE_FAILED = 3
    """Machine, data or result at fault; what was committed is kept."""
    BUSY = 4
    """Another run holds this pipeline."""
    INTERRUPTED = 130
    """Ctrl-C."""


class SupnormError(Exception):
    """An error whose message is written for the user: what, where, what would be right, what next."""

    exit_code = ExitCode.BUG


class UserError(SupnormError):
    """The user's mistake: wrong setting, wrong path, unusable input."""

    exit_code = ExitCode.USER_ERROR


class StageError(SupnormError):
    """A stage cannot go on: damaged data, a loss that is not finite, a broken certificate."""

    exit_code = ExitCode.STAGE_FAILED


class BusyError(SupnormError):
    """Another run of the same pipeline is under way."""

    exit_code = ExitCode.BUSY
