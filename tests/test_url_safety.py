"""Which links are public, in every way an address can be written."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.url_safety import NotPublic, check_public, is_public, origin_of, read_address

INTERNAL = [
    # IPv4, as written by people and by people with intentions
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0x7f.0.0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.0.0.1.",
    "127.0.0.1..",
    "00000000000000000000177.1",
    "0",
    "0.0.0.0",
    "0x",
    "10.0.0.1",
    "10.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "172.2031615",
    "192.168.0.1",
    "192.168.1",
    "3232235521",
    "169.254.169.254",
    "2852039166",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    # the same behind another alphabet or an encoding
    "127%2e0%2e0%2e1",
    "%31%32%37.0.0.1",
    "\uff11\uff12\uff17.0.0.1",
    "127\uff0e0\uff0e0\uff0e1",
    "127\u30020\u30020\u30021",
    "127\uff610\uff610\uff611",
    "\u2460\u2461\u2466.0.0.1",
    "\uff10\uff587f.1",
    "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
    # IPv6
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[febf::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd12:3456::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[100::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2002:c0a8:101::1]",
    # Teredo carries the client's address inverted: 127.0.0.1 and 10.0.0.1
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[2001:0:4136:e378:8000:63bf:f5ff:fffe]",
    # names
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "deep.a.LocalHost.",
    "localhost.localdomain",
    "printer.local",
    "db.internal",
    "metadata.google.internal",
    "wiki.intranet",
    "nas.lan",
    "router.home",
    "router.home.arpa",
    "dc.corp",
    "x.private",
    "intranet",
    "kubernetes",
    "\uff4c\uff4f\uff43alhost",
    "\u24db\u24de\u24d2alhost",
    "\u217cocalhost",
    "loc%61lhost",
    "localhost%2e",
    "loc%C2%ADalhost",  # a soft hyphen, which IDNA drops
]


@pytest.mark.parametrize("host", INTERNAL)
@pytest.mark.parametrize("form", ["https://{}/a.png", "https://{}:8443/a.png", "http://{}"])
def test_an_internal_host_is_refused_however_it_is_written(host: str, form: str) -> None:
    with pytest.raises(NotPublic) as refused:
        check_public(form.format(host))
    assert host.strip("[].").lower() not in str(refused.value).lower() or len(host) < 4


MALFORMED = [
    "",
    "https:",
    "https://",
    "https:///a.png",
    "https:a.example/b",
    "//a.example/b",
    "/tmp/cat.png",
    "a.example/b",
    "https://[::1",
    "https://::1/",
    "https://[127.0.0.1]/",
    "https://[v1.a]/",
    "https://[]/",
    "https://a.example:port/",
    "https://a.example:99999/",
    "https://a.example:-1/",
    "https://a.example:0/",
    "https://999.1.1.1/",
    "https://1.2.3.4.5/",
    "https://0x7g.1/",
    "https://08.1.1.1/",
    "https://1.2.3.256/",
    "https://4294967296/",
    "https://" + "9" * 5000 + "/",
    "https://" + "0x" + "f" * 5000 + "/",
    "https://a..example/",
    "https://.example.com/",
    "https://-a.example.com/",
    "https://a-.example.com/",
    "https://" + "a" * 64 + ".example.com/",
    "https://a.b.c." + "x." * 200 + "example.com/",
    "https://a$.example.com/",
    "https://a.example%00.com/",
    "https://a.example%2f.com/",
    "https://127.0.0.1%2f.example.com/",
    "https://127.0.0.1%23.example.com/",
    "https://127.0.0.1%40example.com/",
    "https://a example.com/",
    "https://\ud800.example.com/",
]


@pytest.mark.parametrize("link", MALFORMED)
def test_a_link_without_a_readable_public_host_is_refused(link: str) -> None:
    with pytest.raises(NotPublic):
        check_public(link)


@pytest.mark.parametrize("character", [*map(chr, range(0x21)), "\x7f", "\\"])
@pytest.mark.parametrize(
    "form",
    ["https://exa{}mple.com/", "{}https://example.com/", "https://example.com/{}", "ht{}tps://a.b"],
)
def test_a_character_that_parsers_read_differently_is_refused(character: str, form: str) -> None:
    with pytest.raises(NotPublic) as refused:
        check_public(form.format(character))
    assert str(refused.value) == "contains a space, a control character or a backslash"


@pytest.mark.parametrize(
    "link",
    [
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https://:@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1@example.com/",
        "https://example.com:443@127.0.0.1/",
    ],
)
def test_a_user_name_is_refused_because_it_would_be_passed_on(link: str) -> None:
    with pytest.raises(NotPublic) as refused:
        check_public(link)
    assert str(refused.value) == "carries a user name or password, which would be passed on"


@pytest.mark.parametrize("link", ["ftp://a.example/b", "file:///etc/passwd", "gopher://a.b/",
                                  "javascript:alert(1)", "data:image/png;base64,AAAA"])  # fmt: skip
def test_other_schemes_are_refused(link: str) -> None:
    with pytest.raises(NotPublic):
        check_public(link)


@pytest.mark.parametrize("trusted", [frozenset(), frozenset({"http://example.com:80"})])
def test_a_callback_must_be_https_even_to_a_trusted_origin(trusted: frozenset[str]) -> None:
    with pytest.raises(NotPublic) as refused:
        check_public("http://example.com/", schemes=("https",), trusted=trusted)
    assert str(refused.value) == "must start with https://"


PUBLIC = [
    "https://example.com/a.png",
    "https://EXAMPLE.com./a.png",
    "http://example.com:8080/a.png?b=127.0.0.1#c",
    "https://sub_domain.example.com/",
    "https://xn--mnchen-3ya.de/bild.jpg",
    "https://münchen.de/bild.jpg",
    "https://例え.テスト/画.png",
    "https://example.com/@user",
    "https://example.com/a%5Cb",
    "https://localhost.example.com/",
    "https://127.0.0.1.example.com/",
    "https://local.host/",
    "https://notlocalhost.com/",
    "https://8.8.8.8/",
    "https://134744072/",
    "https://0x08080808/",
    "https://010.8.8.8/",
    "https://[2606:4700:4700::1111]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[64:ff9b::808:808]/",
    "https://[2002:808:808::]/",
    "https://1e100.net/",
    "https://0xcafe.example/",
]


@pytest.mark.parametrize("link", PUBLIC)
def test_a_public_link_passes(link: str) -> None:
    check_public(link)


# --- any address, any notation ---------------------------------------------------------------

NUMBERS = st.sampled_from(["{}", "0x{:x}", "0X{:X}", "0{:o}", "000{:o}"])


@st.composite
def ipv4_spellings(draw: st.DrawFn) -> tuple[ipaddress.IPv4Address, str]:
    """An address, and one of the ways to write it that operating systems accept."""
    interesting = st.sampled_from(
        ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "8.8.8.8", "1.1.1.1"]
    ).map(ipaddress.IPv4Address)
    address = draw(st.ip_addresses(v=4) | interesting)
    assert isinstance(address, ipaddress.IPv4Address)
    leading = draw(st.integers(0, 3))
    octets = list(address.packed)
    numbers = [*octets[:leading], int.from_bytes(bytes(octets[leading:]), "big")]
    text = ".".join(draw(NUMBERS).format(number) for number in numbers)
    text += draw(st.sampled_from(["", "."]))
    if draw(st.booleans()):
        text = "".join(chr(ord(c) + 0xFEE0) if draw(st.booleans()) else c for c in text)
    if draw(st.booleans()):
        text = "".join(
            "".join(f"%{byte:02x}" for byte in c.encode()) if draw(st.booleans()) else c
            for c in text
        )
    return address, text


@given(ipv4_spellings())
def test_an_ipv4_address_is_judged_alike_in_every_notation(
    spelling: tuple[ipaddress.IPv4Address, str],
) -> None:
    address, text = spelling
    assert _passes(f"https://{text}/a.png") == is_public(address)


@given(st.ip_addresses(v=6), st.sampled_from(["{}", "exploded", "mapped-tail"]))
def test_an_ipv6_address_is_judged_alike_in_every_notation(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, notation: str
) -> None:
    text = str(address)
    if notation == "exploded":
        text = address.exploded.upper()
    elif notation == "mapped-tail":
        pieces = address.exploded.split(":")
        text = ":".join(pieces[:6]) + ":" + str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    assert _passes(f"https://[{text}]/") == is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_address_is_judged_as_itself(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    number = int(address)
    inside = [
        ipaddress.IPv6Address(0xFFFF << 32 | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
        ipaddress.IPv6Address((0x20010000 << 96) | (0x41 << 64) | (number ^ 0xFFFFFFFF)),
    ]
    assert [_passes(f"https://[{outer}]/") for outer in inside] == [is_public(address)] * 4


@given(st.text(max_size=60))
def test_any_text_is_judged_without_another_error(text: str) -> None:
    for link in (text, f"https://{text}", f"https://{text}.com/", f"https://{quote(text)}/"):
        _passes(link)
        origin_of(link)


@given(st.from_regex(r"\A[0-9a-fxA-FX.:\[\]%]{1,30}\Z"))
def test_any_host_made_of_the_characters_of_addresses_is_judged(host: str) -> None:
    _passes(f"https://{host}/")
    try:
        read_address(host)
    except NotPublic:
        return


def _passes(link: str) -> bool:
    try:
        check_public(link)
    except NotPublic:
        return False
    return True


# --- the one exception -----------------------------------------------------------------------

TRUSTED = frozenset({"http://127.0.0.1:8100"})


@pytest.mark.parametrize(
    ("link", "passes"),
    [
        ("http://127.0.0.1:8100/files/a.png", True),
        ("http://127.0.0.1:8100", True),
        ("HTTP://127.0.0.1:8100/", True),
        ("https://127.0.0.1:8100/", False),
        ("http://127.0.0.1:8101/", False),
        ("http://127.0.0.1/", False),
        ("http://localhost:8100/", False),
        ("http://127.1:8100/", False),
        ("http://user@127.0.0.1:8100/", False),
        ("http://127.0.0.1:8100@evil.example/", False),
        ("http://127.0.0.1:8100\\.evil.example/", False),
    ],
)
def test_only_the_very_origin_the_operator_configured_is_exempt(link: str, passes: bool) -> None:
    try:
        check_public(link, trusted=TRUSTED)
    except NotPublic:
        assert not passes
    else:
        assert passes


@pytest.mark.parametrize(
    ("link", "origin"),
    [
        ("https://ai.odkkk.com/apiv1", "https://ai.odkkk.com:443"),
        ("HTTPS://AI.odkkk.com.:443/x", "https://ai.odkkk.com:443"),
        ("http://a.example", "http://a.example:80"),
        ("http://a.example:8080/", "http://a.example:8080"),
        ("a.example", None),
        ("http://[::1", None),
        ("http://a:b", None),
    ],
)
def test_an_origin_is_scheme_host_and_port(link: str, origin: str | None) -> None:
    assert origin_of(link) == origin
