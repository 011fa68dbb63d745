"""Where audio may be fetched from: which hosts, which of their ports, which addresses. Pure: no I/O.

A URL names a host, and only a lookup tells its address: both are checked, because an allowed name can be
made to lead into the cluster's own network (server-side request forgery).
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

from predictor.engine.errors import InvalidRequest

DEFAULT_PORTS = {"http": 80, "https": 443}

GLOBAL_UNICAST = ip_network("2000::/3")
"""All IPv6 that is given out to hosts (https://www.iana.org/assignments/ipv6-address-space)."""

NAT64 = ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits, as networks without IPv4 have it."""

NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # RFC 6890; a cloud's metadata service is in it
            "192.88.99.0/24",  # RFC 7526: relays of 6to4
            "168.63.129.16/32",  # a cloud's own services, at a public address
            "2002::/16",  # RFC 3056: 6to4, IPv4 of any kind inside
            "3fff::/20",  # RFC 9637: documentation
        ),
    )
)
"""What ``is_global`` calls global in some releases of Python 3.11, or what no registry tells."""

LOCALHOST = "localhost"


class Allowlist:
    """Hosts and ports that a person has allowed.

    Args:
        entries: ``host``, for ports 80 and 443, or ``host:port``; an IPv6 address stands in brackets.

    Raises:
        ValueError: an entry is neither.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._allowed: set[tuple[str, int]] = set()
        for entry in entries:
            host, port = _host_and_port(entry)
            ports = DEFAULT_PORTS.values() if port is None else (port,)
            self._allowed |= {(host, each) for each in ports}

    def check(self, text: str) -> httpx.URL:
        """The URL in the form in which it is asked for: host in lower case, IDNA encoded.

        Raises:
            InvalidRequest: not a URL, or one of a scheme, host or port that is not allowed.
        """
        try:
            url = httpx.URL(text)
            # Not every URL that httpx takes has a host that can be looked up.
            host = host_of(url)
        except (httpx.InvalidURL, UnicodeError):
            raise InvalidRequest("audio.url: is not a URL") from None
        if url.scheme not in DEFAULT_PORTS or not host:
            raise InvalidRequest("audio.url: must be an http or https URL")
        if url.userinfo:
            raise InvalidRequest("audio.url: must not hold a user name or password")
        if (host, port_of(url)) not in self._allowed:
            # No lookup was made: the answer is the same whether there is such a host or not.
            raise InvalidRequest(
                f"audio.url: host {host!r} with port {port_of(url)} is not allowed; the "
                "setting allowed_url_hosts (SENSEVOICE_ALLOWED_URL_HOSTS) lists the hosts that are"
            )
        return url


def host_of(url: httpx.URL) -> str:
    """As it is looked up: ASCII, IPv6 without brackets."""
    return url.raw_host.decode("ascii")


def port_of(url: httpx.URL) -> int:
    return DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def may_lead_to(host: str, address: str) -> bool:
    """Whether a name may resolve to an address: to a public one, or ``localhost`` to loopback."""
    ip = ip_address(address.partition("%")[0])
    return ip.is_loopback if host == LOCALHOST else is_public(ip)


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one host's on the public Internet: neither private, loopback, link-local,
    shared (RFC 6598) or multicast, nor a form of IPv6 with any of these inside."""
    if isinstance(ip, IPv6Address):
        if ip in NAT64:
            return is_public(IPv4Address(int(ip) & 0xFFFF_FFFF))
        if ip not in GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in each for each in NOT_PUBLIC)


def _host_and_port(entry: str) -> tuple[str, int | None]:
    wrong = ValueError(f"{entry!r} is neither host nor host:port (IPv6 in brackets)")
    try:
        url = httpx.URL(f"//{entry}")
        host = host_of(url)
    except (httpx.InvalidURL, UnicodeError):
        raise wrong from None
    beyond = url.raw_path != b"/" or url.userinfo or url.fragment
    if not host or beyond or "*" in host or "%" in host:
        raise wrong
    if url.port is not None and not 1 <= url.port <= 65535:
        raise wrong
    return host, url.port
