"""Hosts that are network namespaces of this machine, on one bridge, with links that can be cut.

Nothing outside the namespaces is touched: the bridge, too, is in one of them.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

NETWORK = "10.213.7"


def require_namespaces() -> None:
    """Skip the test where namespaces cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    if shutil.which("ip") is None:
        pytest.skip("needs `ip netns` (Debian: iproute2)")
    name = f"mtl-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", name], check=True)


@dataclass(frozen=True)
class Host:
    """A namespace with one link to the bridge and a host name of its own."""

    name: str
    namespace: str
    switch: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What a command line begins with that runs on this host."""
        rename = 'hostname "$0"; exec "$@"'
        inside = ["ip", "netns", "exec", self.namespace]
        return [*inside, "unshare", "--uts", "sh", "-c", rename, self.name]

    def cut(self) -> None:
        """Cut its link, as if the cable were pulled at the switch."""
        _ip("-n", self.switch, "link", "set", f"to-{self.name}", "down")

    def mend(self) -> None:
        """Put the link back."""
        _ip("-n", self.switch, "link", "set", f"to-{self.name}", "up")


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Hosts of these names; all namespaces are removed at the end, and with them the links."""
    tag = f"mtl-{os.getpid()}"
    switch = f"{tag}-switch"
    hosts = [
        Host(name, f"{tag}-{name}", switch, f"{NETWORK}.{number}")
        for number, name in enumerate(names, 1)
    ]
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for host in hosts:
            _plug_in(host)
        yield hosts
    finally:
        for namespace in (*(host.namespace for host in hosts), switch):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def _plug_in(host: Host) -> None:
    port = f"to-{host.name}"
    _ip("netns", "add", host.namespace)
    pair = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("-n", host.switch, "link", "add", port, *pair)
    _ip("-n", host.switch, "link", "set", port, "master", "bridge", "up")
    _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for link in ("lo", "eth0"):
        _ip("-n", host.namespace, "link", "set", link, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
