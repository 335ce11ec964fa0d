"""Documents that are meant to do harm, or are broken: each ends as text or with the true reason."""

import socket
from random import Random
from zlib import compress

import pytest

from embeddings.parsing import ParsingFailed, limits, parse
from embeddings.parsing.child import docx, html, pdf
from embeddings.parsing.child.text import Unreadable
from embeddings.tests.parsing import files
from embeddings.uploads import CSV, DOCX, HTML, MARKDOWN, PDF, TEXT

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MEGABYTE = 1_000_000


@pytest.fixture
def reason(tmp_path):
    """How the reading of a document ends, in its child."""

    def ended(data, media_type):
        path = tmp_path / "stored"
        path.write_bytes(data)
        with pytest.raises(ParsingFailed) as failed:
            parse(path, media_type)
        return failed.value.code

    return ended


# 60 MB of XML, of which no letter is text.
HUGE = files.document_xml(f"<!--{' ' * MEGABYTE}-->" * 60 + files.paragraph("x"))


def test_a_docx_that_grows_without_end_is_too_large(reason):
    assert reason(files.docx(xml=HUGE), DOCX) == "too_large"


def test_a_docx_that_lies_about_its_size_is_counted(reason):
    assert reason(files.lying(files.docx(xml=HUGE), "word/document.xml", 1000), DOCX) == "too_large"


def test_what_a_docx_says_of_its_size_is_enough_to_refuse_it():
    unread = {"word/media/1.bmp": bytes(51 * MEGABYTE)}

    with pytest.raises(Unreadable, match="too_large"):
        docx.read(files.docx(files.paragraph("x"), members=unread))


def test_a_zip_of_ten_thousand_members_is_too_large():
    members = {f"word/{number}.xml": "" for number in range(10_000)}

    with pytest.raises(Unreadable, match="too_large"):
        docx.read(files.docx(files.paragraph("x"), members=members))


def test_a_pdf_whose_page_unpacks_without_end_is_too_large(reason):
    page = compress(b"BT /F1 12 Tf 50 750 Td (x) Tj ET" + b" " * 110 * MEGABYTE, 1)

    assert reason(files.pdf(streams=[page]), PDF) == "too_large"


def test_a_pdf_that_is_packed_twice_meets_the_limit_of_memory(reason, monkeypatch):
    monkeypatch.setattr(limits, "MOST_MEMORY", 128 * MEGABYTE)
    page = compress(compress(b"BT /F1 12 Tf 50 750 Td (x) Tj ET" + b" " * 150 * MEGABYTE, 1))
    data = files.pdf(streams=[page]).replace(b"/Filter/FlateDecode", b"/Filter[/FlateDecode/FlateDecode]")

    assert reason(data, PDF) == "out_of_memory"


def test_a_pdf_of_too_many_pages_is_too_large():
    with pytest.raises(Unreadable, match="too_large"):
        pdf.read(files.pdf(*["x"] * (pdf.MOST_PAGES + 1)))


def test_html_of_a_million_tags_is_too_large(reason):
    assert reason(b"x<br>" * 1_000_000, HTML) == "too_large"


def test_html_that_is_nested_without_end_is_too_large():
    with pytest.raises(Unreadable, match="too_large"):
        html.read(b"<p>a</p>" + b"<div>" * 50_000 + b"x")


def test_a_docx_of_too_many_elements_is_too_large(monkeypatch):
    monkeypatch.setattr(docx, "MOST_ELEMENTS", 1000)
    assert docx.read(files.docx(files.paragraph("x") + "<w:p/>" * 900)).pages[0].text == "x"

    with pytest.raises(Unreadable, match="too_large"):
        docx.read(files.docx(files.paragraph("x") + "<w:p/>" * 1000))


@pytest.mark.parametrize(
    ("media_type", "line"),
    [(MARKDOWN, "# a{}b"), (MARKDOWN, "# a {}#b"), (TEXT, "a{}b")],
    ids=["heading", "closed heading", "text"],
)
def test_a_megabyte_of_spaces_in_a_line_is_read_as_any_other(tmp_path, monkeypatch, media_type, line):
    """Not looked at once for each of them: that takes minutes."""
    monkeypatch.setattr(limits, "MOST_CPU", 3)
    path = tmp_path / "stored"
    path.write_text(line.format(" " * MEGABYTE))

    assert parse(path, media_type).characters == len(line.format("")) + MEGABYTE


ENTITIES = '<!DOCTYPE d [<!ENTITY a0 "ha">' + "".join(
    f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10)
)


def test_entities_that_grow_without_end_are_too_large(reason):
    xml = files.document_xml(files.paragraph("&a9;"), prolog=f"{ENTITIES}]>")

    assert reason(files.docx(xml=xml), DOCX) == "too_large"


def test_no_file_gets_into_the_text(tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("the canary sings")
    prolog = f'<!DOCTYPE d [<!ENTITY e SYSTEM "file://{canary}">]>'

    with pytest.raises(Unreadable, match="damaged"):
        docx.read(files.docx(xml=files.document_xml(files.paragraph("before &e; after"), prolog)))


def test_nothing_that_a_document_names_is_fetched():
    """Read without the sandbox: what would be asked for would come."""
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        url = f"http://127.0.0.1:{canary.getsockname()[1]}/"
        link = f'<Relationships><Relationship Id="a" Target="{url}" TargetMode="External"/></Relationships>'
        xml = files.document_xml(files.paragraph("x"), prolog=f'<!DOCTYPE d SYSTEM "{url}a.dtd">')
        page = f'<link rel=stylesheet href="{url}"><base href="{url}"><img src="{url}"><iframe src="{url}">'
        contents = [
            docx.read(files.docx(xml=xml, members={"word/_rels/document.xml.rels": link})),
            html.read(f"{page}</iframe><p>x</p>".encode()),
            pdf.read(files.pdf("x", head=b"/AA<</O<</S/URI/URI(%s)>>>>" % url.encode())),
        ]

        assert [content.pages[0].text for content in contents] == ["x", "x", "x"]
        with pytest.raises(BlockingIOError):
            canary.accept()


@pytest.mark.parametrize(
    ("data", "media_type", "code"),
    [
        (files.locked_pdf(), PDF, "encrypted"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), DOCX, "encrypted"),
        (b"%PDF-1.7\n" + b"\x80" * 500, PDF, "damaged"),
        (files.pdf(streams=[]), PDF, "damaged"),
        (files.docx(files.paragraph("x"))[:-100], DOCX, "damaged"),
        (files.docx(xml="<w:document"), DOCX, "damaged"),
        (files.zipped({"word/other.xml": ""}), DOCX, "damaged"),
        (files.pdf("", "  "), PDF, "empty"),
        (files.docx(), DOCX, "empty"),
        (b"", TEXT, "blank"),
        (b" ", HTML, "blank"),
        (b" \n\xef\xbb\xbf", MARKDOWN, "blank"),
        (b"<img src=x><script>let a</script>", HTML, "empty"),
        (b"<html hidden><p>x</p>", HTML, "empty"),
        (b"<body style='display:none'><p>x</p>" + b"<a href=x>y</a>" * 20, HTML, "empty"),
        ("\u200c\u200d\n\ufe0f\u2800\u3164 \u0301".encode(), TEXT, "blank"),
        (b"\n,,\n", CSV, "blank"),
        (bytes(range(256)), TEXT, "not_text"),
        (b"UTF-8, but \x01\x02\x03", TEXT, "not_text"),
        (b"GIF89a", "image/gif", "unsupported"),
    ],
)
def test_what_has_no_text_fails_with_the_true_reason(reason, data, media_type, code):
    assert reason(data, media_type) == code


def test_broken_bytes_end_as_text_or_as_a_reason(tmp_path):
    random = Random(1)
    sound = {
        PDF: files.pdf("one", "two", outline=[("one", 0)]),
        DOCX: files.docx(files.paragraph("one")),
        HTML: b"<h1>one</h1><table><tr><td>two</table>",
    }
    for media_type, data in sound.items():
        for _ in range(2):
            broken = bytearray(data)
            for _ in range(random.randint(1, 30)):
                broken[random.randrange(len(broken))] = random.randrange(256)
            path = tmp_path / "stored"
            path.write_bytes(broken)
            try:
                assert parse(path, media_type).characters > 0
            except ParsingFailed as failed:
                assert failed.code in ("damaged", "empty", "encrypted", "no_letters", "not_text", "too_large")  # noqa: PT017
