"""The client's address, as far as the proxies in front of the server can be believed."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

# Far above any real chain of proxies; what stands further left is not looked at.
MAX_HOPS = 32
MAX_CACHED_PEERS = 1024
MAX_PEER_LENGTH = 64  # an IPv6 address with its zone, and no room for a flood of long strings

# An address with an optional port, as proxies write it (RFC 7239 section 6): no zone, no name.
_NODE = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))(?::(?:[0-9]{1,5}|_[\w.-]{1,32}))?"
    r"|([0-9A-Fa-f:.]{2,45})",
    re.ASCII,
)


class TrustedProxies:
    """Knows which peers may speak for others; headers of all the rest are ignored.

    ``networks`` are addresses ("127.0.0.1", "::1"), networks ("10.0.0.0/8"), "unix" for peers
    without an address, or "*" for every peer. Raises ValueError that names the wrong entry, and
    TypeError for what is no list of strings.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        if isinstance(networks, str):
            raise TypeError(f'trusted proxies must be a list, e.g. ["{networks}"]; got a string')
        entries = list(networks)
        self._all = "*" in entries
        self._unix = "unix" in entries
        self._networks = [_network(entry) for entry in entries if entry not in ("*", "unix")]
        # Judging an address costs microseconds, and few peers are asked about again and again.
        self._trusts_address = lru_cache(MAX_CACHED_PEERS)(self._judge)

    def trusts(self, peer: str | None) -> bool:
        """Whether headers from this peer are believed; None is a peer without an address."""
        if self._all:
            return True
        if not peer:
            return self._unix
        return len(peer) <= MAX_PEER_LENGTH and self._trusts_address(peer)

    def client(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The nearest address that no trusted proxy has; the peer itself when it is not trusted.

        X-Forwarded-For is read from the right and Forwarded (RFC 7239) only without it: let the
        proxy remove the one it does not set. The first entry that is no address ends the reading.
        """
        if not self.trusts(peer):
            return peer
        client = peer
        for hop in _hops(headers):
            address = _address(hop)
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        return client

    def _judge(self, peer: str) -> bool:
        address = _address(peer.partition("%")[0])
        return address is not None and any(address in network for network in self._networks)


def _network(entry: str) -> IPv4Network | IPv6Network:
    if not isinstance(entry, str):
        raise TypeError(f'a trusted proxy is a string, e.g. "10.0.0.0/8"; got {entry!r}')
    try:
        network = ip_network(entry)
    except ValueError as error:
        raise ValueError(
            f"trusted proxy {entry!r} is not an address, a network such as 10.0.0.0/8, "
            f'"unix" or "*": {error}'
        ) from error
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return IPv4Network((mapped, network.prefixlen - 96))


def _address(node: str) -> IPv4Address | IPv6Address | None:
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    try:
        address = ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return None
    # A socket for both families shows ::ffff:10.0.0.1 for 10.0.0.1.
    return getattr(address, "ipv4_mapped", None) or address


def _hops(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """What the proxies said, the nearest first."""
    forwarded_for, forwarded = [], []
    for name, value in headers:
        if name == b"x-forwarded-for":
            forwarded_for.append(value)
        elif name == b"forwarded":
            forwarded.append(value)
    if forwarded_for:
        return _from_the_right(forwarded_for)
    return [_forwarded_for(element) for element in _from_the_right(forwarded)]


def _from_the_right(values: list[bytes]) -> list[str]:
    # Commas split even inside quotes: what a client sends left of the proxy's own element must
    # not be able to swallow that element with an open quote.
    entries = b",".join(values).decode("latin-1").rsplit(",", MAX_HOPS)
    return [entry.strip(" \t") for entry in reversed(entries[-MAX_HOPS:])]


def _forwarded_for(element: str) -> str:
    pairs = (pair.partition("=") for pair in element.split(";"))
    nodes = [node for name, _, node in pairs if name.strip(" \t").lower() == "for"]
    return nodes[0].strip(' \t"') if len(nodes) == 1 else ""
