"""The network interfaces of a node that belong to its site's fast network: what a profile calls `fabric`."""

import socket
from collections.abc import Sequence
from pathlib import Path

NET = Path("/sys/class/net")


def interfaces() -> list[str]:
    """Return the interfaces of this machine that are not down, by name."""
    names = sorted(name for _, name in socket.if_nameindex())
    return [name for name in names if not _is_down(name)]


def _is_down(name: str) -> bool:
    try:
        return (NET / name / "operstate").read_text().strip() == "down"
    except OSError:  # no Linux
        return False


def variables(fabric: str, there: Sequence[str]) -> dict[str, str]:
    """Return the variables by which gloo, NCCL (and RCCL) and TensorPipe use the fabric.

    Parameters
    ----------
    fabric
        How the names of its interfaces begin, several after commas: `hsn`, `ib0`.
    there
        The interfaces of this node.
    """
    prefixes = tuple(filter(None, (prefix.strip() for prefix in fabric.split(","))))
    names = [name for name in there if name.startswith(prefixes)]
    if not names:
        raise RuntimeError(
            f"no network interface of this node begins with {' or '.join(prefixes)}, as the site's profile says of its "
            f"fabric; there are {', '.join(there) or 'none'}. If it is so on every node, correct `fabric` there"
        )
    # gloo wants equally many on every rank, and has little to send: one. NCCL takes all, by their whole names
    return {
        "GLOO_SOCKET_IFNAME": names[0],
        "NCCL_SOCKET_IFNAME": f"={','.join(names)}",
        "TP_SOCKET_IFNAME": names[0],
    }
