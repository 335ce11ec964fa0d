"""Small documents, made as they are needed."""

import struct
import zipfile
import zlib
from io import BytesIO

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument'
    '.wordprocessingml.document.main+xml"/></Types>'
)


def pdf(*pages, title="", outline=(), trailer=b"", streams=None, head=b""):
    """A page for each text or packed stream; `outline` has (title, page from 0); `head` is in each page."""
    streams = [_drawn(text) for text in pages] if streams is None else streams
    count = len(streams)
    first_page, first_stream = 5, 5 + count
    first_entry = first_stream + count
    kids = b" ".join(b"%d 0 R" % (first_page + at) for at in range(count))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/Outlines 4 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count),
        b"<</Title(%s)>>" % title.encode("latin-1"),
        b"<</Type/Outlines/First %d 0 R/Last %d 0 R>>" % (first_entry, first_entry + len(outline) - 1)
        if outline
        else b"<<>>",
    ]
    objects += [
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents %d 0 R%s/Resources<</Font<</F1"
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>>>>>>>"
        % (first_stream + at, head)
        for at in range(count)
    ]
    objects += [
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(stream), stream)
        for stream in streams
    ]
    for at, (heading, page) in enumerate(outline):
        following = b"/Next %d 0 R" % (first_entry + at + 1) if at + 1 < len(outline) else b""
        objects.append(
            b"<</Title(%s)/Parent 4 0 R/Dest[%d 0 R/Fit]%s>>"
            % (heading.encode("latin-1"), first_page + page, following)
        )
    return _assembled(objects, trailer)


def _drawn(text):
    lines = b" T* ".join(b"(%s) Tj" % line.encode("cp1252") for line in text.split("\n"))
    return zlib.compress(b"BT /F1 12 Tf 14 TL 50 750 Td %s ET" % lines)


def _assembled(objects, trailer):
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R/Info 3 0 R%s>>\n"
        b"startxref\n%d\n%%%%EOF" % (len(objects) + 1, table, len(objects) + 1, trailer, len(out))
    )


def locked_pdf():
    """No password fits these hashes."""
    lock = b"/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4>>" % (b"11" * 32, b"22" * 32)
    return pdf("secret", trailer=lock)


def paragraph(text, style=""):
    style = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{style}<w:r><w:t>{text}</w:t></w:r></w:p>"


def document_xml(body, prolog=""):
    return f'{prolog}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'


def docx(body="", *, title="", xml=None, members=None, types=CONTENT_TYPES):
    """`body` is the XML inside w:body; `members` come besides. The style of a heading has a Spanish id."""
    styles = f'<w:styles xmlns:w="{WORD}"><w:style w:styleId="Ttulo1"><w:name w:val="heading 1"/></w:style>'
    styles += "</w:styles>"
    core = f'<p xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></p>'
    parts = {
        "[Content_Types].xml": types,
        "word/styles.xml": styles,
        "docProps/core.xml": core,
        "word/document.xml": document_xml(body) if xml is None else xml,
        **(members or {}),
    }
    return zipped(parts)


def zipped(parts):
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def lying(data, name, size):
    """The same zip, whose list of members says that `name` has `size` bytes."""
    at = data.rfind(name.encode())  # In the list, which stands behind the members.
    return data[: at - 46 + 24] + struct.pack("<I", size) + data[at - 46 + 28 :]
