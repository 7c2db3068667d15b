"""Wait out a full disk: retry a write when there is space again, instead of failing the run."""

import errno
import logging
import shutil
import time
from collections.abc import Callable

from hpc.rank.context import Context, Preempted

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_S = 60.0
"""Retry this often, as free space does not show a quota."""


def retry_when_disk_is_full(ctx: Context, write: Callable[[], object]) -> None:
    """Run `write`, which writes into ctx.out, and run it again from the start while the disk is full."""
    alerted = False
    while True:
        try:
            write()
            return
        except OSError as error:
            if error.errno not in FULL:
                raise
            if not alerted:
                log.error(
                    "ALERT %s: %s. Free some space on that disk or quota, and the run continues by itself; or stop "
                    "it, and run the same command again when there is space",
                    ctx.out,
                    error.strerror,
                )
            alerted = True
        free, until = shutil.disk_usage(ctx.out).free, time.monotonic() + FULL_S
        while time.monotonic() < until and shutil.disk_usage(ctx.out).free <= free:
            if ctx.should_stop():
                raise Preempted
            ctx.beat()
            time.sleep(0.5)
