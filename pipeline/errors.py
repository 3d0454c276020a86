"""What a user reads when something is wrong, and the exit code that a script reads."""

import errno
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
    """Ctrl-C; the same command continues. After SIGTERM or SIGUSR1 the code is 0."""


class SupnormError(Exception):
    """An error written for the user: what and where, what would be right, what next."""

    exit_code: int = ExitCode.BUG
    mark = "error"
    """The word in front of the message."""


class UserError(SupnormError):
    """The user's mistake: wrong setting, wrong path, unusable input."""

    exit_code: int = ExitCode.USER_ERROR


class StageError(SupnormError):
    """A stage cannot go on: damaged data, a loss that is not finite, a broken certificate."""

    exit_code: int = ExitCode.STAGE_FAILED


class LostRank(StageError):
    """This rank cannot reach another one: it is gone, and whoever watches it knows why."""


class StoppedOnRequest(SupnormError):
    """A stage has stopped where all its ranks could, and the same command goes on from there."""


class StageStopped(StageError):
    """The ranks of a stage ended badly; they have said why themselves."""

    mark = "stopped"

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BusyError(SupnormError):
    """Another run of the same pipeline is under way."""

    mark = "busy"

    exit_code: int = ExitCode.BUSY


class InterruptedRun(SupnormError):
    """The user or the system asked the run to stop."""

    mark = "stopped"

    exit_code: int = ExitCode.INTERRUPTED

    def __init__(self, message: str, exit_code: int = ExitCode.INTERRUPTED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def disk_error(error: OSError, place: object) -> SupnormError | None:
    """Say in plain words what the disk refused, and what to do.

    Args:
        error: what the operating system answered.
        place: the path to name where the error itself names none (a full disk does not).

    Returns:
        An error to raise; None where this is no trouble of a disk, but a fault of ours.
    """
    path = error.filename or place
    if error.errno in _MACHINE_TROUBLE:
        return StageError(f"{path}: {_MACHINE_TROUBLE[error.errno]}")
    if error.errno in _USER_TROUBLE and error.filename:
        return UserError(f"{path}: {_USER_TROUBLE[error.errno]}")
    return None


_MACHINE_TROUBLE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your quota on this disk is used up; free some space",
    errno.EIO: "the disk cannot be read or written; see the machine's log",
    errno.ENOLCK: "this file system has no locks; choose another place with --runs",
}
_USER_TROUBLE = {
    errno.EROFS: "this disk is read-only; choose another place",
    errno.EACCES: "access is not permitted; see its owner and mode, or choose another place",
    errno.EPERM: "access is not permitted; see its owner and mode, or choose another place",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ENAMETOOLONG: "this path is too long",
}
