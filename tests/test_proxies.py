import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.proxies import MAX_CACHED_PEERS, MAX_HOPS, TrustedProxies

LOCAL = ["127.0.0.1", "::1", "10.0.0.0/8"]
PEER = "10.0.0.7"

header_names = st.sampled_from([b"x-forwarded-for", b"forwarded", b"x-real-ip"]) | st.binary()
header_values = st.binary(max_size=60) | st.text('0123456789abf.:,;[]"=_% for', max_size=60).map(
    str.encode
)
headers_of_any_kind = st.lists(st.tuples(header_names, header_values), max_size=5)
peers = st.none() | st.text() | st.ip_addresses().map(str)


def forwarded_for(*values):
    return [(b"x-forwarded-for", value.encode()) for value in values]


def forwarded(*values):
    return [(b"forwarded", value.encode()) for value in values]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("10.0.0.5/8", "host bits"),
        ("localhost", "does not appear"),
        ("10.0.0.0/33", "does not appear"),
        ("", "does not appear"),
        ("1.2.3.4:80", "does not appear"),
    ],
    ids=["host-bits", "name", "prefix", "empty", "port"],
)
def test_refuses_a_wrong_entry(entry, reason):
    """A wrong entry is named with what is wrong and what would be right."""
    with pytest.raises(ValueError, match="is not an address, a network such as") as raised:
        TrustedProxies(["127.0.0.1", entry])
    assert repr(entry) in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize("networks", ["127.0.0.1", [10], [b"\n\0\0\1"], [["::1"]]], ids=repr)
def test_refuses_what_is_no_list_of_strings(networks):
    """A bare string is not a list of its letters, and a number is not an address."""
    with pytest.raises(TypeError, match="trusted prox"):
        TrustedProxies(networks)


@pytest.mark.parametrize(
    ("networks", "peer", "trusted"),
    [
        (LOCAL, "127.0.0.1", True),
        (LOCAL, "127.0.0.2", False),
        (LOCAL, "10.255.0.1", True),
        (LOCAL, "11.0.0.1", False),
        (LOCAL, "::1", True),
        (LOCAL, "::2", False),
        (LOCAL, "::ffff:10.0.0.1", True),
        (LOCAL, None, False),
        (LOCAL, "", False),
        (LOCAL, "testclient", False),
        (LOCAL, "10.0.0.1" + "0" * 100, False),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["unix"], None, True),
        (["unix"], "", True),
        (["unix"], "127.0.0.1", False),
        (["*"], None, True),
        (["*"], "testclient", True),
        ([], "127.0.0.1", False),
        (iter(LOCAL), "127.0.0.1", True),
    ],
)
def test_trusts(networks, peer, trusted):
    """A peer is trusted when an entry covers its address, also when asked again."""
    proxies = TrustedProxies(networks)
    assert proxies.trusts(peer) is trusted
    assert proxies.trusts(peer) is trusted


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4, 10.0.0.9,10.0.0.8"], "1.2.3.4"),
        (["6.6.6.6", "1.2.3.4", "10.0.0.9"], "1.2.3.4"),
        (["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        (["1.2.3.4:5678"], "1.2.3.4"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["2001:DB8:0::1"], "2001:db8::1"),
        (["::ffff:1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, unknown, 10.0.0.9"], "10.0.0.9"),
        (["6.6.6.6, _hidden"], PEER),
        (["6.6.6.6, , 10.0.0.9"], "10.0.0.9"),
        ([""], PEER),
        (["1.2.3.4:port"], PEER),
        (["1.2.3"], PEER),
        (["1.2.3.999"], PEER),
        (["[1.2.3.4"], PEER),
        (["fe80::1%<script>"], PEER),
        (["١.2.3.4"], PEER),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(values, client):
    """The first address no trusted proxy has is the client; garbage ends the reading."""
    assert TrustedProxies(LOCAL).client(PEER, forwarded_for(*values)) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["for=1.2.3.4"], "1.2.3.4"),
        (["for=6.6.6.6;proto=http, For=1.2.3.4;by=10.0.0.7"], "1.2.3.4"),
        (['proto=https; for="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
        (['for="1.2.3.4:_gazonk"'], "1.2.3.4"),
        (["for=6.6.6.6", "for=1.2.3.4, for=10.0.0.9"], "1.2.3.4"),
        (["for=6.6.6.6, for=unknown, for=10.0.0.9"], "10.0.0.9"),
        (["for=6.6.6.6, for=_SEVKISEK"], PEER),
        (["for=6.6.6.6;for=1.2.3.4"], PEER),
        (["proto=https"], PEER),
        (["for"], PEER),
        (['for="6.6.6.6', "for=1.2.3.4"], "1.2.3.4"),
    ],
)
def test_forwarded_is_read_from_the_right(values, client):
    """The standard header (RFC 7239) obeys the same rule; an open quote swallows nothing."""
    assert TrustedProxies(LOCAL).client(PEER, forwarded(*values)) == client


def test_x_forwarded_for_wins_over_forwarded():
    """Of both headers the one that proxies set in practice is believed, wherever it stands."""
    headers = forwarded_for("1.2.3.4"), forwarded("for=5.6.7.8")
    for both in (headers, headers[::-1]):
        assert TrustedProxies(LOCAL).client(PEER, both[0] + both[1]) == "1.2.3.4"


def test_everyone_trusted_gives_the_leftmost():
    """With "*" nobody ends the chain: its far end is the client."""
    assert TrustedProxies(["*"]).client(None, forwarded_for("1.2.3.4, 5.6.7.8")) == "1.2.3.4"


def test_a_unix_peer_speaks_for_the_client():
    """A proxy on the same host's socket has no address and is trusted by name."""
    headers = forwarded_for("1.2.3.4")
    assert TrustedProxies(["unix"]).client(None, headers) == "1.2.3.4"
    assert TrustedProxies(LOCAL).client(None, headers) is None


@given(peers.filter(lambda peer: not TrustedProxies(LOCAL).trusts(peer)), headers_of_any_kind)
def test_an_untrusted_peer_is_itself(peer, headers):
    """Whatever headers it sends, a peer that is not trusted cannot appear as anyone else."""
    assert TrustedProxies(LOCAL).client(peer, headers) == peer


@given(
    st.sampled_from([forwarded_for, lambda value: forwarded(f'for="[{value}]"')]),
    st.ip_addresses(v=6).filter(lambda address: address != ipaddress.ip_address("::1")),
    headers_of_any_kind,
    st.integers(1, 3),
)
def test_a_client_behind_trusted_proxies_is_itself(write, client, sent, hops):
    """What a client sends stands left of what the proxies add, and is never believed."""
    client = getattr(client, "ipv4_mapped", None) or client
    added = write(str(client))
    name = added[0][0]
    sent = [(name, value) for _, value in sent]
    headers = sent + added + [(name, added[0][1].replace(str(client).encode(), b"::1"))] * hops
    believed = TrustedProxies([*LOCAL, "::1"]).client(PEER, headers)
    assert believed == str(client)


@given(st.sampled_from([LOCAL, ["*"], ["unix"]]), peers, headers_of_any_kind)
def test_any_bytes_give_an_address_or_the_peer(networks, peer, headers):
    """No bytes raise, and nothing but the peer or a real address comes out."""
    client = TrustedProxies(networks).client(peer, headers)
    assert client == peer or str(ipaddress.ip_address(client)) == client


def test_hostile_lengths_are_not_walked():
    """Only the nearest hops count; a cut entry is never taken for an address."""
    chain = ", ".join(["127.0.0.1"] * (MAX_HOPS + 5))
    assert TrustedProxies(LOCAL).client(PEER, forwarded_for("6.6.6.6, " + chain)) == "127.0.0.1"
    huge = forwarded_for("9" * 10_000_000, "1.2.3.4," * 100_000 + "6.6.6.6")
    assert TrustedProxies(LOCAL).client(PEER, huge) == "6.6.6.6"


def test_the_memory_of_peers_is_bounded():
    """A flood of peers leaves a bounded cache behind."""
    proxies = TrustedProxies(LOCAL)
    for number in range(MAX_CACHED_PEERS + 100):
        proxies.trusts(str(ipaddress.ip_address(number)))
    assert proxies._trusts_address.cache_info().currsize == MAX_CACHED_PEERS
