import errno

import pytest

from pipeline.errors import StageError, UserError, disk_error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), StageError, "runs/x: the disk is full"),
        (OSError(errno.EDQUOT, "Quota"), StageError, "runs/x: your quota on this disk"),
        (OSError(errno.EIO, "I/O", "a/b"), StageError, "a/b: the disk cannot be read"),
        (OSError(errno.EROFS, "Read-only", "a/b"), UserError, "a/b: this disk is read-only"),
        (OSError(errno.EACCES, "Denied", "a/b"), UserError, "a/b: access is not permitted"),
    ],
)
def test_trouble_of_a_disk_is_said_in_plain_words(error, kind, message):
    found = disk_error(error, "runs/x")
    assert type(found) is kind
    assert str(found).startswith(message)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "no such file", "a"),
        PermissionError(errno.EPERM, "not a file at all"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        OSError("no number"),
    ],
)
def test_other_errors_keep_their_traceback(error):
    assert disk_error(error, "runs/x") is None
