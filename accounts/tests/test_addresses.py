"""Where requests come from: what is counted together, and which headers are believed."""

import http.client

import pytest

from accounts.limits.addresses import UNKNOWN, client_address, network_of
from llmsite.testing.site import Site


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:CB00:7107", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:0001:0002::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_one_line_is_one_address_however_it_is_written(peer, counted):
    assert client_address(peer) == counted


@pytest.mark.parametrize("peer", ["", "unix:", "nonsense", "203.0.113.256", "203.0.113.7:80", "1" * 5000])
def test_what_is_no_address_shares_one_bucket(peer):
    assert client_address(peer) == UNKNOWN


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("nonsense", UNKNOWN),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_a_network_names_nobody(address, network):
    assert network_of(address) == network


class Visitor:
    """Asks a site over its own connection and reads how much is left for its address."""

    def __init__(self, site):
        self.site = site

    def left(self, *forwarded_for):
        """`forwarded_for` are the X-Forwarded-For lines, from the first to the last."""
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=10)
        try:
            connection.putrequest("GET", "/api/models")
            for line in forwarded_for:
                connection.putheader("X-Forwarded-For", line)
            connection.endheaders()
            answer = connection.getresponse()
            answer.read()
            return int(answer.headers["X-RateLimit-Remaining"])
        finally:
            connection.close()


def test_without_trusted_proxies_a_client_cannot_choose_its_address(transactional_db):
    with Site(RATE_LIMIT_ADDRESS="100/h") as site:
        visitor = Visitor(site)
        left = [
            visitor.left(),
            visitor.left("203.0.113.1"),
            visitor.left("203.0.113.2, 127.0.0.1"),
            visitor.left("203.0.113.3", "203.0.113.4"),
        ]

    assert left == [99, 98, 97, 96]


def test_behind_trusted_proxies_the_right_most_that_is_none_of_them_counts(transactional_db):
    with Site(RATE_LIMIT_ADDRESS="100/h", TRUSTED_PROXIES="127.0.0.1, 10.1.2.3/8") as site:
        visitor = Visitor(site)
        same = [
            visitor.left("203.0.113.9"),
            visitor.left("198.51.100.1, 203.0.113.9"),
            visitor.left("198.51.100.2,203.0.113.9 , 10.9.9.9"),
            visitor.left("198.51.100.3", "  203.0.113.9  "),
            visitor.left("203.0.113.9:51000"),
            visitor.left("nonsense, 203.0.113.9", "127.0.0.1"),
        ]
        others = [
            visitor.left("203.0.113.9, 198.51.100.1"),
            visitor.left("2001:db8::1"),
            visitor.left("[2001:db8::2]:80"),
        ]
        nonsense = [visitor.left("nonsense"), visitor.left("203.0.113.9, <script>")]
        proxy_itself = [visitor.left(), visitor.left("")]

    assert same == [99, 98, 97, 96, 95, 94]
    assert others == [99, 99, 98]
    assert nonsense == [99, 98]
    assert proxy_itself == [99, 98]
