"""What trackers share about servers: whether a node reaches them, and the tokens that they want."""

import urllib.error
import urllib.request
from collections.abc import Mapping

from hpc.config import Secret
from hpc.errors import ConfigError

REACH_S = 5.0
PROJECT = "eegdecode"
"""The project of W&B, the experiment of MLflow, unless the environment names another."""


def is_reachable(address: str) -> bool:
    """Whether somebody answers there, whatever he says; through the proxy of the environment, if there is one."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=REACH_S).close()
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, ValueError):
        return False
    return True


def secret(name: str, environ: Mapping[str, str]) -> str:
    """A token, from the environment or the user's file of secrets; empty if there is none."""
    try:
        return Secret(name).value(environ)
    except ConfigError:
        return ""
