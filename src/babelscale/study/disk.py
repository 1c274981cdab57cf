"""A full disk is reported in one sentence and with its own exit code, whichever part of the program finds it."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from babelscale.errors import BabelscaleError, StudyError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
HINT = "make room and run the same command again; finished runs and saved states are kept"


class DiskFull(StudyError):
    """There is no room left for a study; whoever makes some gives the same command again."""

    exit_code = 2


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Work that writes into `folder`.

    Raises:
        DiskFull: in place of what was raised because there was no room.
    """
    try:
        yield
    except DiskFull:
        raise
    except (BabelscaleError, OSError) as error:
        if not _means_no_room(error):
            raise
        if isinstance(error, BabelscaleError):
            raise DiskFull(error.message, hint=error.hint or HINT) from error
        where = error.filename or folder
        raise DiskFull(f"{where}: the disk is full ({error.strerror or error})", hint=HINT) from error


def _means_no_room(error: BaseException | None) -> bool:
    while error is not None:
        # What is not Python's own (Orbax, Polars) has the system's words, and no number.
        if getattr(error, "errno", None) in _NO_ROOM or any(os.strerror(number) in str(error) for number in _NO_ROOM):
            return True
        error = error.__cause__
    return False
