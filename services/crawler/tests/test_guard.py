"""No connection reaches an address that is not public, however it is written."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
from aiohttp import ClientConnectorError, ClientSession, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from crawler.fetch import Failed, Fetched, Fetcher
from crawler.guard import PrivateAddressError, guarded_socket
from crawler.urls import canonical, join

HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.01",
    "0177.0x0.0.1",
    "127.0.0.1.",
    "127。0。0。1",
    "\uff11\uff12\uff17.0.0.1",
    "%31%32%37.0.0.1",
    "user:secret@127.0.0.1",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::ffff:0.0.0.0]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::80ff:fffe]",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[100::1]",
    "0177.1",
    "0x7f.0x0.0x0.0x1",
    "00000177.0.0.1",
    "0x0000007f000001",
    "127.0x1",
    "0.0.0.1",
    "0x0a000001",
    "012.0.0.1",
    "3232235777",
    "0xa9fea9fe",
    "169.16689662",
    "192.168.257",
    "".join(chr(0xFEE0 + ord(digit)) for digit in "2130706433"),  # in wide digits
    "127.0.0.①",
    "①②⑦.⓪.⓪.①",
    "ⓛocalhost",
    "public.example@127.0.0.1",
    "public.example%40@127.0.0.1",
    "public.example:443@127.0.0.1",
    "[::ffff:0:127.0.0.1]",
    "[0000:0000:0000:0000:0000:ffff:7f00:0001]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:10.0.0.1]",
    "[::10.0.0.1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1:ffff::10.0.0.1]",
    "[2002:c0a8:101::1]",
    "[2002:a00:1::]",
    "[2001::7f00:1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[5f00::1]",
    "[fe80::a9fe:a9fe]",
    "[febf::1]",
    "[fdff::1]",
    "[ff0e::1]",
    "[2001:db8:ffff::1]",
    "100.64.0.1",
    "100.127.255.255",
    "172.31.255.255",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "198.19.255.255",
    "239.255.255.255",
    "233.252.0.1",
    "169.254.170.2",
    "168.63.129.16",
    "2822734096",
    "[::ffff:168.63.129.16]",
]

# What a server may answer to lead there: `{}` is a port.
LOCATIONS = [
    "http://127.0.0.1:{}/",
    "//127.0.0.1:{}/",
    "///127.0.0.1:{}/",
    "\\\\127.0.0.1:{}\\",
    "/\\127.0.0.1:{}",
    "http:\\\\2130706433:{}",
    " \t http://127.1:{}/",
    "ht\ttp://127.0.0.1:{}/",
    "HTTP://0x7f.1:{}",
    "http:///127.0.0.1:{}/",
    "http://public.example@127.0.0.1:{}/",
    "http://public.example:80@[::ffff:7f00:1]:{}/",
    "http://127.0.0.1:{}/#@public.example/",
    "http://127.0.0.1:{}\\@public.example/",
    "http://[::1]:{}/",
    "http://localhost:{}/",
    "http://%6c%6f%63alhost:{}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[64:ff9b::a9fe:a9fe]/latest/",
]


@asynccontextmanager
async def local_server() -> AsyncIterator[tuple[int, list[str]]]:
    """Listen on every address of this machine, and note who connects."""
    connected: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer.get_extra_info("sockname")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\nsecret")
        writer.close()

    everywhere = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await asyncio.start_server(answer, sock=everywhere)
    async with server:
        yield server.sockets[0].getsockname()[1], connected


@pytest.mark.parametrize("host", HOSTS)
async def test_private_host_is_refused_in_every_form(host: str) -> None:
    async with local_server() as (port, connected), Fetcher(user_agent="Tallyho/1", timeout=5) as fetcher:
        url = canonical(f"http://{host}:{port}/")
        assert url is not None
        result = await fetcher.fetch(url)

    assert result == Failed("private_address")
    assert connected == []


@pytest.mark.parametrize("location", LOCATIONS)
async def test_redirect_to_a_private_host_is_refused(location: str) -> None:
    async with local_server() as (port, connected), Fetcher(user_agent="Tallyho/1", timeout=5) as fetcher:
        target = join("http://public.example/a/", location.format(port))
        assert target is not None
        result = await fetcher.fetch(target)

    assert result == Failed("private_address")
    assert connected == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:6379/_FLUSHALL", "data:text/html,x"]
)
def test_redirect_leads_to_nothing_but_http(location: str) -> None:
    assert join("http://public.example/a/", location) is None


async def test_name_that_changes_its_address_is_checked_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawler.guard.is_public", lambda address: address == "127.0.0.2")  # for what is public
    resolver = Answers("127.0.0.2")
    connector = TCPConnector(resolver=resolver, socket_factory=guarded_socket, use_dns_cache=False, force_close=True)
    async with local_server() as (port, connected), ClientSession(connector=connector) as session:
        url = f"http://rebinding.example:{port}/"
        async with session.get(url) as answer:
            assert await answer.text() == "secret"
        resolver.addresses = ("127.0.0.1",)
        with pytest.raises(ClientConnectorError) as refused:
            await session.get(url)

    assert isinstance(refused.value.os_error, PrivateAddressError)
    assert connected == ["::ffff:127.0.0.2"]


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "localhost"])
async def test_private_host_is_reached_where_allowed(host: str) -> None:
    async with (
        local_server() as (port, connected),
        Fetcher(user_agent="Tallyho/1", timeout=5, allow_private=True) as fetcher,
    ):
        url = canonical(f"http://{host}:{port}/")
        assert url is not None
        result = await fetcher.fetch(url)

    assert result == Fetched(200, "text/html", b"secret")
    assert len(connected) == 1


@pytest.mark.parametrize(
    ("host", "network", "is_reached"),
    [
        ("127.0.0.1", "127.0.0.1/32", True),
        ("127.1", "127.0.0.0/8", True),
        ("[::1]", "::1/128", True),
        ("127.0.0.2", "127.0.0.1/32", False),
        ("[::ffff:127.0.0.1]", "127.0.0.1/32", False),
        ("127.0.0.1", "::1/128", False),
    ],
)
async def test_private_network_that_the_operator_names_is_reached_and_no_other(
    host: str, network: str, is_reached: bool
) -> None:
    allowed = [ip_network(network)]
    async with (
        local_server() as (port, connected),
        Fetcher(user_agent="Tallyho/1", timeout=5, allowed_networks=allowed) as fetcher,
    ):
        result = await fetcher.fetch(canonical(f"http://{host}:{port}/") or "")

    assert isinstance(result, Fetched) is is_reached
    assert len(connected) == is_reached


class Answers(AbstractResolver):
    """A DNS that answers any name with these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"], ["10.0.0.1", "::ffff:127.0.0.1", "::1"]])
async def test_name_that_resolves_to_private_addresses_is_refused(addresses: list[str]) -> None:
    connector = TCPConnector(resolver=Answers(*addresses), socket_factory=guarded_socket)
    async with local_server() as (port, connected), ClientSession(connector=connector) as session:
        with pytest.raises(ClientConnectorError) as refused:
            await session.get(f"http://rebinding.example:{port}/")

    assert isinstance(refused.value.os_error, PrivateAddressError)
    assert connected == []
