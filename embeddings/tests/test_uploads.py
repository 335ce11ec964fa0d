"""Which files are taken: name, first bytes and structure have to agree."""

import pytest

from embeddings.tests.parsing import files
from embeddings.uploads import CSV, DOCX, HTML, MARKDOWN, PDF, TEXT, check_upload, safe_name
from llmsite.core.errors import TooLarge, UnsupportedFile, describe

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
A_DOCX = files.docx(files.paragraph("x"))
MACROS = files.CONTENT_TYPES.replace("wordprocessingml.document", "document.macroEnabled")


@pytest.fixture
def check(tmp_path):
    def checked(name, data):
        path = tmp_path / "upload"
        path.write_bytes(data)
        return check_upload(name, data[:1024], path)

    return checked


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("a.pdf", files.pdf("x"), PDF),
        ("A.PDF", b"%PDF-1.7 and broken", PDF),
        ("font.pdf", b"%PDF-1.3\n<</FontFile (<head\x00>)>>", PDF),
        ("locked.pdf", files.locked_pdf(), PDF),
        ("a.docx", A_DOCX, DOCX),
        ("cut.docx", A_DOCX[:-50], DOCX),
        ("locked.docx", OLE + "EncryptedPackage".encode("utf-16-le"), DOCX),
        ("a.html", b"<!DOCTYPE html><svg></svg>", HTML),
        ("a.htm", b"<?xml version='1.0'?><html>", HTML),
        ("a.html", b"<p>only a part", HTML),
        ("a.md", b"# Rivers", MARKDOWN),
        ("a.markdown", b"", MARKDOWN),
        ("a.txt", b"BMW, MZ and RIFF are letters", TEXT),
        ("a.txt", "El río".encode("utf-16"), TEXT),
        ("a.txt", b"<script>as text</script>", TEXT),
        ("a.csv", b"a,b\n1,2\n", CSV),
    ],
)
def test_what_is_what_its_name_says_is_taken(check, name, data, media_type):
    assert check(name, data) == media_type


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.exe", b"MZ"),
        ("a.svg", b"<svg/>"),
        ("a.doc", OLE),
        ("a.docm", A_DOCX),
        ("a", b"text"),
        (".pdf", b"%PDF-1.7"),
        ("a.pdf.exe", b"%PDF-1.7"),
        ("a.pdf", b"<html><body>hello"),
        ("a.pdf", b"GIF89a%PDF-1.7"),
        ("a.pdf", b"%PDF-1.7\n<script>alert(1)</script>"),
        ("a.pdf", files.pdf("x") + files.zipped({"a": "b"})),
        ("a.docx", files.pdf("x")),
        ("a.docx", files.zipped({"a.txt": "b"})),
        ("a.docx", files.zipped({"a.txt": "b"})[:-10]),
        ("a.docx", files.zipped({"[Content_Types].xml": "", "xl/workbook.xml": ""})),
        ("a.docx", files.docx(members={"word/vbaProject.bin": "x"})),
        ("a.docx", files.docx(types=MACROS)),
        ("a.docx", OLE + b"an old .doc"),
        ("a.docx", b"PK\x03\x04%PDF-1.7" + A_DOCX),
        ("a.html", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"),
        ("a.html", b"<?xml version='1.0'?>\n<!-- x --><!DOCTYPE svg><svg/>"),
        ("a.html", b"%PDF-1.7"),
        ("a.html", b"<p>polyglot %PDF-1.7"),
        ("a.txt", PNG),
        ("a.md", A_DOCX),
        ("a.csv", b"a,b\x00c"),
        ("a.txt", OLE),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(check, name, data):
    with pytest.raises(UnsupportedFile) as refused:
        check(name, data)

    assert describe(refused.value).status == 415
    assert describe(refused.value).field == "file"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv"])
def test_a_text_over_its_limit_is_refused(check, name):
    with pytest.raises(TooLarge) as refused:
        check(name, b"x" * 5_000_001)

    assert describe(refused.value).status == 413


def test_a_page_of_nothing_but_comments_is_looked_at_once(check):
    assert check("a.html", b"<!---->" * 140 + b"x") == HTML


def test_a_zip_with_a_list_that_would_fill_the_memory_is_refused(check):
    long_names = {f"{number:0>200}": "" for number in range(5000)}

    with pytest.raises(TooLarge):
        check("a.docx", files.docx(members=long_names))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ana\\río.pdf", "río.pdf"),
        ("/absolute.pdf", "absolute.pdf"),
        ("a\x00b\n.pdf", "ab.pdf"),
        ("gnp\u202efdp.exe", "gnpfdp.exe"),
        ("ri\u0301o.pdf", "río.pdf"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("x" * 300, "x" * 200),
        ("  two   words .pdf ", "two words .pdf"),
        ("...", "document"),
        ("", "document"),
        ("CON", "CON"),
        ("año – «1».pdf", "año – «1».pdf"),
    ],
)
def test_a_name_can_be_shown(name, shown):
    assert safe_name(name) == shown
