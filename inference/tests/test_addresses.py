"""Where a model's row may send a prompt and a key: nowhere but where the operator says, whatever is tried."""

import asyncio
import socket
import ssl
import subprocess
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from inference.addresses import vet
from inference.providers import get_provider
from inference.providers.anthropic import AnthropicProvider
from inference.providers.local import LocalProvider
from inference.providers.openai import OpenAIProvider
from inference.tests.providers.asking import collect, collect_until_error, text_of
from inference.tests.standin import Answer
from llmsite.core import destinations, errors
from llmsite.core.destinations import Network, is_allowed, plain_url

KEY = "sk-canary-5bT0wY7n"
WORLD = "93.184.215.14"

REFUSED_ANYWHERE = [
    "0.0.0.0",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "::",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "::127.0.0.1",
    "::10.0.0.1",
    "fe80::5efe:7f00:1",
    "2001:db8::1",
    "2a00:1450::5efe:10.0.0.1",
    "2a00:1450::200:5efe:7f00:1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]
OWN = ["127.0.0.1", "10.1.2.3", "172.20.0.2", "192.168.1.5", "100.64.0.9", "::1", "fd12:3456::1"]
PUBLIC = [
    "93.184.215.14",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "64:ff9b::5db8:d70e",
    "2002:5db8:d70e::1",
]


class TestNetworks:
    @pytest.mark.parametrize("address", REFUSED_ANYWHERE)
    def test_some_addresses_are_in_none(self, address):
        assert not any(is_allowed(ip_address(address), network) for network in Network)

    @pytest.mark.parametrize("address", OWN)
    def test_private_ones_are_in_our_own_alone(self, address):
        assert is_allowed(ip_address(address), Network.OWN)
        assert not is_allowed(ip_address(address), Network.WORLD)

    @pytest.mark.parametrize("address", PUBLIC)
    def test_public_ones_are_in_the_world_alone(self, address):
        assert is_allowed(ip_address(address), Network.WORLD)
        assert not is_allowed(ip_address(address), Network.OWN)


NO_BASE_URL = [
    "",
    "llm.example.org/v1",
    "ftp://llm.example.org/v1",
    "file:///etc/passwd",
    "http://",
    "http://a@b",
    "http://user:password@127.0.0.1/v1",
    "http://127.0.0.1:8000@evil.example/v1",
    "http://127.0.0.1:8000/v1?x=1",
    "http://127.0.0.1:8000/v1#x",
    "http://127.0.0.1:8000/v1/../admin",
    "http://127.0.0.1:8000/./v1",
    "http://127.0.0.1:8000//v1",
    "http://127.0.0.1:8000/%2e%2e/v1",
    "http://127.0.0.1:/v1",
    "http://127.0.0.1:0/v1",
    "http://127.0.0.1:99999/v1",
    "http://127.0.0.1\\@evil.example/v1",
    "http://127.0.0.1 /v1",
    "http://127.0.0.1\n/v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "http://0x7f.1/v1",
    "http://0177.0.0.1/v1",
    "http://127.1/v1",
    "http://127.0.0.1./v1",
    "http://127.0.0.01/v1",
    "http://①②⑦.0.0.1/v1",
    "http://localhost%00.example/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://[fe80::1%25eth0]/v1",
    "http://[0:0:0:0:0:0:0:1]/v1",
    "http://-a.example/v1",
]


class TestForm:
    @pytest.mark.parametrize("url", NO_BASE_URL)
    def test_what_could_be_read_in_two_ways_is_no_base_url(self, url):
        with pytest.raises(ValueError, match=r".*"):
            plain_url(url)

    @pytest.mark.parametrize(
        ("url", "plain"),
        [
            ("HTTP://LLM.Example.org:80/v1/", "http://llm.example.org/v1"),
            ("https://llm.example.org:443", "https://llm.example.org"),
            ("https://llm.example.org:8443/", "https://llm.example.org:8443"),
            ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
            ("http://gpu_1:8000/V1", "http://gpu_1:8000/V1"),
        ],
    )
    def test_one_address_has_one_form(self, url, plain):
        assert plain_url(url) == plain


@pytest.fixture
def names(monkeypatch):
    """A resolver that the test controls: a name leads to the next of its lists of addresses."""
    known, asked = {}, []

    def lookup(host, port, *args, **options):
        asked.append(host)
        try:
            found = [str(ip_address(host))]
        except ValueError:
            if host not in known:
                raise socket.gaierror(socket.EAI_NONAME, "no such name") from None
            found = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(families[ip_address(one).version], socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(destinations.socket, "getaddrinfo", lookup)
    known["asked"] = asked
    return known


class TestVet:
    @pytest.fixture(autouse=True)
    def _listed(self, settings, names):
        settings.PROVIDER_BASE_URLS = [
            "https://llm.example.org/v1",
            "https://93.184.215.14",
            "https://10.0.0.5/v1",
            "http://gpu1:8000/v1",
            "http://169.254.169.254/latest",
            "http://[fe80::1]/v1",
            "http://93.184.215.14/v1",
        ]
        names["llm.example.org"] = [[WORLD]]
        names["gpu1"] = [["10.0.0.7"]]

    def reason(self, url, **values):
        with pytest.raises(errors.InvalidInput) as caught:
            vet(url, **values)
        public = errors.describe(caught.value)
        assert (public.status, public.field) == (400, "base_url")
        return public.message

    def test_a_listed_address_is_kept_in_its_one_form(self):
        assert vet("HTTPS://LLM.example.org:443/v1/") == "https://llm.example.org/v1"
        assert vet("http://gpu1:8000/v1") == "http://gpu1:8000/v1"
        assert vet("https://93.184.215.14/") == "https://93.184.215.14"

    @pytest.mark.parametrize("url", NO_BASE_URL)
    def test_another_form_is_refused(self, url):
        assert "full address" in self.reason(url)

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:8000/v1",
            "http://llm.example.org/v1",
            "https://llm.example.org",
            "https://llm.example.org/v1/files",
            "https://llm.example.org:8443/v1",
            "https://llm.example.org.evil.example/v1",
            "http://gpu1/v1",
        ],
    )
    def test_what_is_not_listed_is_refused_however_near(self, url):
        assert "PROVIDER_BASE_URLS" in self.reason(url)

    @pytest.mark.parametrize(
        "url",
        [
            "https://10.0.0.5/v1",
            "http://169.254.169.254/latest",
            "http://[fe80::1]/v1",
            "http://93.184.215.14/v1",
        ],
    )
    def test_a_listed_address_in_the_wrong_network_is_refused(self, url):
        assert "elsewhere" in self.reason(url)

    @pytest.mark.parametrize(
        "found", [["127.0.0.1"], ["169.254.169.254"], [WORLD, "10.0.0.1"], ["::ffff:7f00:1"]]
    )
    def test_so_is_a_name_that_leads_there(self, names, found):
        names["llm.example.org"] = [found]

        assert "elsewhere" in self.reason("https://llm.example.org/v1")

    def test_a_name_that_nobody_has_is_told(self, names):
        del names["gpu1"]

        assert "name" in self.reason("http://gpu1:8000/v1")

    def test_a_providers_own_address_is_its_own_alone(self, settings, names):
        settings.OPENAI_BASE_URL = "https://proxy.example.org/v1"
        names["proxy.example.org"] = [[WORLD]]

        assert vet("https://proxy.example.org/v1", provider="openai") == "https://proxy.example.org/v1"
        assert "PROVIDER_BASE_URLS" in self.reason("https://proxy.example.org/v1", provider="anthropic")


PROVIDERS = {
    "anthropic": lambda url, **values: AnthropicProvider(api_key=KEY, base_url=url, **values),
    "local": lambda url, **values: LocalProvider(base_url=url, embedded=False, **values),
    "openai": lambda url, **values: OpenAIProvider(api_key=KEY, base_url=f"{url}/v1", **values),
}


@pytest.fixture(params=PROVIDERS)
def make(request):
    return PROVIDERS[request.param]


def port_of(standin):
    return standin.url.rpartition(":")[2]


class TestConnecting:
    async def test_the_socket_goes_to_the_address_that_was_checked(self, make, standin, names):
        names["gpu1"] = [["127.0.0.1"], ["169.254.169.254"]]
        provider = make(f"http://gpu1:{port_of(standin)}", network=Network.OWN)

        assert text_of(await collect(provider)) == "Hello, world!"

        # The name was looked up once: it could not lead elsewhere between the check and the connection.
        assert names["asked"].count("gpu1") == 1
        assert standin.calls[0].headers["host"] == f"gpu1:{port_of(standin)}"

    @pytest.mark.parametrize(
        "found", [["127.0.0.1"], ["10.0.0.1"], [WORLD, "169.254.169.254"], ["::ffff:7f00:1"]]
    )
    async def test_a_name_that_leads_elsewhere_now_is_not_called(self, make, standin, names, found):
        names["llm.example.org"] = [found]
        provider = make(f"http://llm.example.org:{port_of(standin)}", network=Network.WORLD)

        events, error = await collect_until_error(provider)

        assert events == []
        assert isinstance(error, errors.ProviderAddressRefused)
        assert standin.calls == []

    async def test_a_name_that_is_rebound_is_refused_at_the_next_connection(self, make, standin, names):
        names["gpu1"] = [["127.0.0.1"], ["169.254.169.254"]]
        provider = make(f"http://gpu1:{port_of(standin)}", network=Network.OWN)
        standin.script(Answer(headers={"connection": "close"}, end="fin"))
        await collect_until_error(provider)

        _, error = await collect_until_error(provider)

        assert isinstance(error, errors.ProviderAddressRefused)
        assert len(standin.calls) == 1

    @pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
    async def test_a_number_is_no_name(self, make, standin, host):
        _, error = await collect_until_error(make(f"http://{host}:{port_of(standin)}", network=Network.OWN))

        assert isinstance(error, errors.ProviderAddressRefused)
        assert standin.calls == []

    async def test_another_address_of_the_name_is_tried(self, make, standin, names):
        names["gpu1"] = [["127.0.0.3", "127.0.0.1"]]
        provider = make(f"http://gpu1:{port_of(standin)}", network=Network.OWN)

        assert text_of(await collect(provider)) == "Hello, world!"

    async def test_nobody_at_any_address_is_a_provider_that_is_away(self, make, standin, names):
        names["gpu1"] = [["127.0.0.3", "127.0.0.4"]]

        _, error = await collect_until_error(make(f"http://gpu1:{port_of(standin)}", network=Network.OWN))

        assert type(error) is errors.ProviderUnavailable
        assert error.data["phase"] == "connect"

    async def test_a_name_that_nobody_has_is_a_provider_that_is_away(self, make, names):
        _, error = await collect_until_error(make("http://gone:8000", network=Network.OWN))

        assert type(error) is errors.ProviderUnavailable

    @pytest.mark.parametrize("network", [None, Network.OWN])
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, make, standin, status, network):
        standin.script(Answer(status=status, headers={"location": f"{standin.url}/v1/models"}))

        _, error = await collect_until_error(make(standin.url, network=network))

        assert isinstance(error, errors.ProviderRejected)
        assert len(standin.calls) == 1


@contextmanager
def tls_server(folder, name):
    """The address of a server with a certificate of `name`, what it saw, and that certificate."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN={name}"
    )
    files = ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    seen = []
    context.sni_callback = lambda connection, asked, context: seen.append(asked)
    yield context, certificate, seen


async def test_tls_asks_for_the_certificate_of_the_name(make, names, tmp_path, monkeypatch):
    names["llm.example.org"] = [["127.0.0.1"]]
    with tls_server(tmp_path, "llm.example.org") as (context, certificate, seen):

        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
            writer.close()

        trusting = ssl.create_default_context(cafile=certificate)
        monkeypatch.setattr("inference.providers.sdk._tls", lambda: trusting)
        monkeypatch.setattr("llmsite.core.http._tls", lambda: trusting)
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            _, error = await collect_until_error(make(f"https://llm.example.org:{port}", network=Network.OWN))
            names["other.example.org"] = [["127.0.0.1"]]
            _, wrong = await collect_until_error(
                make(f"https://other.example.org:{port}", network=Network.OWN)
            )

    assert (type(error), error.data["status"]) == (errors.ProviderRejected, 418)
    assert type(wrong) is errors.ProviderUnavailable
    assert seen == ["llm.example.org", "other.example.org"]


class TestRegistry:
    def test_an_address_has_its_own_instance(self, settings):
        settings.PROVIDER_BASE_URLS = ["http://gpu1:8000/v1", "http://gpu2:8000/v1"]

        first = get_provider("local", "http://gpu1:8000/v1")

        assert first is get_provider("local", "http://gpu1:8000/v1")
        assert len({first, get_provider("local", "http://gpu2:8000/v1"), get_provider("local")}) == 3

    def test_what_the_operator_takes_from_the_list_is_refused(self, settings):
        settings.PROVIDER_BASE_URLS = ["http://gpu1:8000/v1"]
        get_provider("local", "http://gpu1:8000/v1")
        settings.PROVIDER_BASE_URLS = []

        with pytest.raises(errors.ProviderAddressRefused) as caught:
            get_provider("local", "http://gpu1:8000/v1")
        assert errors.describe(caught.value).status == 503

    def test_a_provider_without_a_network_has_no_address(self, settings):
        settings.PROVIDER_BASE_URLS = ["http://gpu1:8000/v1"]

        with pytest.raises(errors.ProviderAddressRefused):
            get_provider("echo", "http://gpu1:8000/v1")

    async def test_a_listed_address_is_called(self, standin, settings):
        settings.PROVIDER_BASE_URLS = [standin.url]

        assert text_of(await collect(get_provider("local", standin.url))) == "Hello, world!"
        assert len(standin.calls) == 1
