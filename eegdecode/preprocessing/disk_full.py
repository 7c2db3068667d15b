"""A full disk is no reason to lose a run: what could not be written is done again when somebody has made room."""

import errno
import logging
import shutil
import time
from collections.abc import Callable

from hpc.rank.context import Context, Preempted

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_S = 60.0
"""Where a quota hides what is free, it is tried that often."""


def retry_when_disk_is_full(ctx: Context, write: Callable[[], object]) -> None:
    """Do something that writes into ctx.out and may be done again from its start."""
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
                    "ALERT %s: %s. Delete something from that disk or quota, and it goes on by itself; or stop the "
                    "run, and give the same line again when there is room",
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
