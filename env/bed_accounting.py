"""Accounting of a bed: slurmdbd, and a MariaDB in the bed's own folder. Part of env/bed.

Both are unpacked beside the system (bed_packages.py), listen on this machine only, and end with the bed.
"""

from __future__ import annotations

import os
import pwd
import secrets
from collections.abc import Callable
from pathlib import Path

from bed_packages import BedError, Slurm, fetch, run, unpacked
from bed_sites import Site

ACCOUNT = "grant"
"""The account that all users of a bed have."""
SCHEMA = ("system_tables.sql", "system_tables_data.sql")


def write(directory: Path, books: Slurm, host: str, user: str, ports: tuple[int, int]) -> None:
    """The configuration of slurmdbd, and an empty database. `ports`: of slurmdbd and of MariaDB."""
    word = secrets.token_hex(16)
    conf = directory / "slurmdbd.conf"
    conf.touch(mode=0o600)
    conf.write_text(f"""\
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[0]}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
PluginDir={books.plugins}
PidFile={directory}/slurmdbd.pid
LogFile={directory}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[1]}
StorageUser=slurm
StoragePass={word}
StorageLoc=slurm_acct_db
""")
    beside = directory / "database.sql"
    beside.touch(mode=0o600)
    beside.write_text(
        f"create database mysql;\nuse mysql;\n{system_tables(books)}\n"
        f"flush privileges;\ncreate user slurm@'127.0.0.1' identified by '{word}';\n"
        "grant all on *.* to slurm@'127.0.0.1';\n"
    )
    (directory / "database").mkdir()
    run(["sh", "-c", 'exec "$@" < "$0"', str(beside), *mariadbd(directory, books), "--bootstrap"], "no database")
    beside.unlink()


def share(books: Slurm) -> Path:
    """Where MariaDB's texts are."""
    assert books.tree
    return next(books.tree.glob("usr/share/*/charsets")).parent


def system_tables(books: Slurm) -> str:
    """What its own database is made by; 11.8 has renamed the files."""
    return "".join(next(share(books).glob(f"m*_{name}")).read_text() for name in SCHEMA)


def mariadbd(directory: Path, books: Slurm, port: int = 0) -> list[str]:
    assert books.bin
    user = pwd.getpwuid(os.geteuid()).pw_name
    return [
        str(books.bin / "mariadbd"), "--no-defaults", f"--user={user}", f"--datadir={directory}/database",
        f"--lc-messages-dir={share(books)}", f"--character-sets-dir={share(books)}/charsets",
        f"--socket={directory}/database.sock", f"--pid-file={directory}/mariadbd.pid",
        f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-buffer-pool-size=16M",
        "--innodb-log-file-size=8M", "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0",
        "--skip-log-bin", *([] if port else ["--skip-networking"]),
    ]  # fmt: skip


def slurmdbd(books: Slurm) -> list[str]:
    """The libmariadb of Debian 13 (11.8.9) refuses slurmdbd every answer ("maximum allowed number of columns (=0)"), so
    that of Debian 12 is loaded in its place."""
    assert books.bin
    command = [str(books.bin / "slurmdbd"), "-D"]
    if books.release != "24.11":
        return command
    other = unpacked("22.05", "accounting") or fetch("22.05", "accounting")
    assert other.tree
    library = next(other.tree.glob("usr/lib/*/libmariadb.so.3"))
    return ["env", f"LD_PRELOAD={library}", *command]


def lines(directory: Path, host: str, port: int) -> str:
    """What comes to slurm.conf."""
    return f"""\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={host}
AccountingStoragePort={port}
AccountingStoragePass={directory}/munge/socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
"""


def users() -> list[str]:
    """All that may have jobs here: the one who starts the bed, and those of tests."""
    names = {pwd.getpwuid(os.geteuid()).pw_name, "nobody"}
    return sorted(name for name in names if any(entry.pw_name == name for entry in pwd.getpwall()))


def fill(sacctmgr: Callable[..., str], site: Site) -> None:
    """The cluster, an account that all users have, a second QOS, and the limits of the first."""
    for words in (
        ["add", "cluster", "bed"],
        ["add", "account", ACCOUNT, "Cluster=bed"],
        ["add", "qos", "long"],
        ["modify", "qos", "normal", "set", "Flags=DenyOnLimit", *site.limits.split()],
        *(["add", "user", name, f"Account={ACCOUNT}", "Cluster=bed", "QOS=normal,long"] for name in users()),
    ):
        sacctmgr("sacctmgr", "-i", *words)
    if ACCOUNT not in sacctmgr("sacctmgr", "-n", "-P", "show", "assoc", "format=Account,User"):
        raise BedError("sacctmgr has not taken the accounts of the bed, see slurmdbd.log")
