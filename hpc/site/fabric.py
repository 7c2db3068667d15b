"""The network interfaces of a node that belong to its site's fast network: what a profile calls `fabric`."""

import fcntl
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NET = Path("/sys/class/net")
ADDRESS_OF_INTERFACE = 0x8915
"""SIOCGIFADDR of Linux."""


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


def own_address(environ: Mapping[str, str]) -> str:
    """Return the address at which other nodes reach this one: of the interface that the site names for gloo or NCCL, or
    of this node's name. Empty if neither is known: then it listens at all."""
    chosen = environ.get("GLOO_SOCKET_IFNAME") or environ.get("NCCL_SOCKET_IFNAME") or "^"
    for name in [] if chosen.startswith("^") else chosen.lstrip("=").split(","):
        for _, interface in socket.if_nameindex():
            if interface.startswith(name) and (address := address_of(interface)):
                return address
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return ""
    return next((str(address[0]) for *_, address in found if not str(address[0]).startswith("127.")), "")


def address_of(interface: str) -> str:
    """Return the IPv4 address of a network interface, or an empty text."""
    if sys.platform != "linux":
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, ADDRESS_OF_INTERFACE, struct.pack("256s", interface.encode()))
        except OSError:  # it has none
            return ""
    return socket.inet_ntoa(answer[20:24])
