"""HTTP connections to publicly routable addresses alone, and none that outlasts a deadline.

A list of URLs from the web must not make a cluster ask its own machines. What is checked is the address that is
connected to, so that a name whose address changes between check and connection gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
# Forms of IPv6 addresses that lead to an IPv4 address inside. Public images are not reached by them.
_LEADING_TO_IPV4 = tuple(
    ipaddress.ip_network(network)
    for network in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")  # NAT64, Teredo, 6to4
)


class PrivateAddress(Exception):
    """A host name led to an address that is not publicly routable."""


class UnknownHost(Exception):
    """A host name led to no address."""


def is_public(address: str) -> bool:
    """Whether an address, such as ``"93.184.216.34"`` or ``"2606:4700::1111"``, is of one host on the public internet."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if ip.version == 6 and ip in _MAPPED:
        ip = ip.ipv4_mapped
    if ip.version == 6 and any(ip in network for network in _LEADING_TO_IPV4):
        return False
    return ip.is_global and not ip.is_multicast


class Deadline:
    """Within this block, no exchange of this thread over [`LimitedAdapter`] lasts longer than so many seconds.

    A time-out of a socket starts anew with each byte; here the connection is cut when the time is up, in whatever state
    it is. What was read until then looks like the end of an answer: ask :attr:`is_over` before using it.
    """

    _of_thread = threading.local()

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @property
    def left(self) -> float:
        """Seconds, below 0 when the time is up."""
        return self._end - time.monotonic()

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    def __enter__(self) -> Deadline:
        self._of_thread.current = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._socket = None
        del self._of_thread.current

    @classmethod
    def watch(cls, connection: socket.socket) -> None:
        """Cuts this connection when the deadline of the calling thread is over."""
        if current := getattr(cls._of_thread, "current", None):
            with current._lock:
                current._socket = connection

    def _cut(self) -> None:
        with self._lock:
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:  # the other side was faster
                    return


class _Watched:
    """Mixin of urllib3's connections: an answer is cut at the thread's deadline."""

    def getresponse(self) -> Any:
        Deadline.watch(self.sock)
        return super().getresponse()


class _Checked(_Watched):
    """Connects to the very address that was checked."""

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self.host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnknownHost(self.host) from error
        if not all(is_public(entry[4][0]) for entry in found):
            raise PrivateAddress(self.host)
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(self.timeout)
            try:
                connection.connect(address)
                return connection
            except OSError as error:
                connection.close()
                failure = error
        raise NewConnectionError(self, f"no address of {self.host} answers") from failure


def _pools(mixin: type) -> dict[str, type]:
    """urllib3's pools by scheme, with connections of a mixin."""
    kinds = {"http": (HTTPConnectionPool, HTTPConnection), "https": (HTTPSConnectionPool, HTTPSConnection)}
    return {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": type(connection.__name__, (mixin, connection), {})})
        for scheme, (pool, connection) in kinds.items()
    }


class LimitedAdapter(HTTPAdapter):
    """The adapter of requests with connections that obey [`Deadline`] and, unless told otherwise, the address check.

    A proxy of the environment connects by itself and has to check by itself.

    Args:
        private_hosts: whether addresses of this machine and its network may be asked.
    """

    def __init__(self, private_hosts: bool = False, **settings: Any) -> None:
        self._pools = _pools(_Watched if private_hosts else _Checked)
        super().__init__(**settings)

    def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:
        super().init_poolmanager(*arguments, **settings)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **settings: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **settings)
        manager.pool_classes_by_scheme = _pools(_Watched)
        return manager
