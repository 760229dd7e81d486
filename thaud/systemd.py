"""The notify protocol of systemd (sd_notify(3)): ready, alive, stopping. Silent where there is no systemd.

Owns the datagrams; the socket's address and the watchdog interval arrive from the environment through config.
"""

import socket
from contextlib import suppress


def notify(address: str | None, state: str) -> None:
    """Send one state, e.g. `READY=1`; an address that starts with @ is an abstract socket.

    Where nobody reads, or nobody is there any more, it is not said: no service manager may hold the daemon up.
    """
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as sender, suppress(OSError):
        sender.connect(target)
        sender.sendall(state.encode())
