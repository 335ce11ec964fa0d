"""What is read of each format: text as people see it, pages, headings and titles."""

import pytest

from embeddings.parsing import parse
from embeddings.parsing.child import docx, html, markdown, pdf, plain, table
from embeddings.parsing.child.text import Unreadable, clean
from embeddings.tests.parsing import files
from embeddings.uploads import CSV, DOCX, HTML, MARKDOWN, PDF, TEXT


def text_of(content):
    (page,) = content.pages
    assert all(page.text[at:].startswith(heading) for at, heading in page.headings)
    return page.text


@pytest.mark.parametrize(
    ("media_type", "data", "text", "title", "is_paged"),
    [
        (PDF, files.pdf("El río pasa.", title="Ríos"), "El río pasa.", "Ríos", True),
        (DOCX, files.docx(files.paragraph("El río pasa."), title="Ríos"), "El río pasa.", "Ríos", False),
        (HTML, "<title>Ríos</title><p>El río pasa.</p>".encode(), "El río pasa.", "Ríos", False),
        (MARKDOWN, "# Ríos\n\nEl río pasa.".encode(), "# Ríos\n\nEl río pasa.", "Ríos", False),
        (TEXT, "El río pasa.".encode(), "El río pasa.", "", False),
        (TEXT, "El r\u00edo pasa, ¿no?".encode("cp1252"), "El río pasa, ¿no?", "", False),
        (CSV, "río,país\nEbro,España\n".encode(), "río: Ebro\npaís: España", "", False),
    ],
)
def test_each_format_is_read_in_its_child(tmp_path, media_type, data, text, title, is_paged):
    path = tmp_path / "stored"
    path.write_bytes(data)

    parsed = parse(path, media_type)

    assert [page.text for page in parsed.pages] == [text]
    assert (parsed.title, parsed.is_paged, parsed.pages[0].number) == (title, is_paged, 1)


# --- PDF ------------------------------------------------------------------------------------------------


def test_a_pdf_has_its_pages_and_the_headings_of_its_outline():
    data = files.pdf(
        "Introduction\nIt begins.",
        "more of it",
        "1.2 The end\nDone.",
        outline=[("Introduction", 0), ("The end", 2)],
    )

    pages = pdf.read(data).pages

    assert [page.number for page in pages] == [1, 2, 3]
    assert [page.headings for page in pages] == [[(0, "Introduction")], [], [(0, "The end")]]
    assert pages[2].text == "1.2 The end\nDone."


def test_words_and_sentences_that_line_ends_cut_are_whole_again():
    assert (
        pdf.unwrap("infor-\r\nmation about\r\nrivers.\r\nNext line") == "information about rivers.\nNext line"
    )
    assert pdf.unwrap("ac\ufffetual") == "actual"
    assert pdf.unwrap("from A-\nB") == "from A-\nB"


def test_the_dots_of_a_table_of_contents_are_few():
    (page,) = pdf.read(files.pdf("1. Rivers . . . . . . . . . . . 12")).pages

    assert page.text == "1. Rivers ... 12"


def test_the_title_that_a_program_made_up_is_none():
    assert pdf.read(files.pdf("text", title="Microsoft Word - draft7.doc")).title == ""


def test_letters_of_a_font_that_does_not_name_them_are_no_text():
    with pytest.raises(Unreadable, match="no_letters"):
        pdf.read(files.pdf("\x04\x05\x06\x07\x08\x0e\x0f\x10\x11\x12"))


# --- DOCX -----------------------------------------------------------------------------------------------


def test_headings_of_a_docx_are_told_by_the_name_of_their_style():
    content = docx.read(files.docx(files.paragraph("Ríos", "Ttulo1") + files.paragraph("El Ebro", "Normal")))

    assert text_of(content) == "Ríos\n\nEl Ebro"
    assert content.pages[0].headings == [(0, "Ríos")]


def test_tables_of_a_docx_are_lines_and_deleted_text_is_gone():
    cell = "<w:tc>{}</w:tc>".format
    row = (
        f"<w:tr>{cell(files.paragraph('Ebro'))}{cell(files.paragraph('930') + files.paragraph('km'))}</w:tr>"
    )
    deleted = "<w:p><w:del><w:r><w:t>never</w:t></w:r></w:del><w:r><w:t>kept</w:t></w:r></w:p>"

    assert (
        text_of(docx.read(files.docx(f"<w:tbl>{row}{row}</w:tbl>{deleted}")))
        == "Ebro | 930 km\n\nEbro | 930 km\n\nkept"
    )


def test_tabs_breaks_and_text_boxes_of_a_docx_are_read_once():
    box = (
        '<mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice>{files.paragraph('in a box')}</mc:Choice>"
        f"<mc:Fallback>{files.paragraph('in a box')}</mc:Fallback>"
        "</mc:AlternateContent>"
    )
    body = f"<w:p><w:r>{box}<w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t></w:r></w:p>"

    assert text_of(docx.read(files.docx(body))) == "in a box\n\none\ttwo\nthree"


def test_footnotes_of_a_docx_are_read():
    note = f"<w:footnote>{files.paragraph('a note')}</w:footnote>"
    notes = f'<w:footnotes xmlns:w="{files.WORD}">{note}</w:footnotes>'

    data = files.docx(files.paragraph("text"), members={"word/footnotes.xml": notes})

    assert text_of(docx.read(data)) == "text\n\na note"


# --- HTML -----------------------------------------------------------------------------------------------

MENU = (
    "<ul>"
    + "".join(f"<li><a href='/{n}'>Something else to read, number {n}</a></li>" for n in range(60))
    + "</ul>"
)
ARTICLE = "".join(
    f"<p>The river number {n} is long, and many people live beside it all year round.</p>" for n in range(9)
)


def test_a_page_that_is_mostly_text_is_kept_whole_with_its_headings():
    content = html.read(
        b"<h1>R\xc3\xados</h1><p>One <b>bold</b>\n word.</p><pre>a  b\n  c</pre><ul><li>x<li>y</ul>"
    )

    assert text_of(content) == "Ríos\n\nOne bold word.\n\na  b\n  c\n\n- x\n\n- y"
    assert content.pages[0].headings == [(0, "Ríos")]


def test_of_a_page_that_is_mostly_menus_only_the_article_is_read():
    text = text_of(
        html.read(f"<body><div>{MENU}</div><article><h1>Rivers</h1>{ARTICLE}</article>{MENU}</body>".encode())
    )

    assert "The river number 8 is long" in text
    assert "Something else" not in text


def test_nothing_that_people_do_not_see_is_read():
    hidden = "<!-- s0 -->" + "".join(
        f"<{tag}>s1</{tag}>" for tag in ("script", "style", "template", "noscript", "nav")
    )

    assert text_of(html.read(f"<head><title>t</title></head><body>{hidden}<p>seen</p>".encode())) == "seen"


@pytest.mark.parametrize(
    "attribute",
    [
        "hidden",
        'aria-hidden="true"',
        'style="display:none"',
        'style="color: red; DISPLAY : none !important"',
        'style="display/* */:none"',
        "style=visibility:hidden",
    ],
)
def test_what_a_page_hides_is_not_read(attribute):
    page = f"<p>seen</p><div {attribute}><p>hidden <b>words</b></p></div> and <i {attribute}>more</i> this"

    assert text_of(html.read(page.encode())) == "seen\n\nand this"
    assert text_of(html.read(f"<body>{page}{MENU}<article {attribute}>{ARTICLE}".encode())).find("river") < 0


def test_what_a_page_shows_is_read_whatever_its_style():
    styles = ("display:block", "x-display:none", "visibility:visible", "content:'display:none'")
    page = "".join(f'<p style="{style}" aria-hidden="false">seen</p>' for style in styles)

    assert text_of(html.read(page.encode())) == "\n\n".join(["seen"] * len(styles))


def test_cells_of_a_table_are_apart():
    assert text_of(html.read(b"<table><tr><td>Ebro</td><td>930</td></tr></table>")) == "Ebro | 930"


@pytest.mark.parametrize(
    "declaration", ['<meta charset="iso-8859-2">', '<?xml version="1.0" encoding="iso-8859-2"?>']
)
def test_html_is_decoded_as_it_says(declaration):
    data = f"{declaration}<p>Łódź leży nad Łódką</p>".encode("iso-8859-2")

    assert text_of(html.read(data)) == "Łódź leży nad Łódką"


# --- Text -----------------------------------------------------------------------------------------------


def test_markdown_keeps_its_marks_and_knows_its_headings():
    text = "Ríos\n====\n\ntext\n\n```\n# a comment\n```\n\n## El Ebro ##\n\n- item\n- item\n\nmore\n"

    content = markdown.read(text.encode())

    assert content.pages[0].text == text.strip()
    assert [heading for _, heading in content.pages[0].headings] == ["Ríos", "El Ebro"]
    assert [content.pages[0].text[at:].split("\n")[0] for at, _ in content.pages[0].headings] == [
        "Ríos",
        "## El Ebro ##",
    ]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp1251", "gb18030", "shift_jis"],
)
def test_encodings_are_recognised(encoding):
    text = {
        "cp1251": "Река течёт через город, и люди любят гулять вдоль её берегов по вечерам. " * 3,
        "gb18030": "这条河流经城市，人们喜欢在傍晚沿着河岸散步。河水清澈，鱼儿很多。" * 4,
        "shift_jis": "この川は町を流れ、人々は夕方に川岸を歩くのが好きです。水はきれいです。" * 4,
    }.get(encoding, "El río Ebro pasa por Zaragoza, ¿verdad? Sí: «claro».")
    data = text.encode(encoding) if encoding != "utf-16-le" else b"\xff\xfe" + text.encode(encoding)

    assert plain.decode(data) == text


@pytest.mark.parametrize("text", ["El niño", "Está aquí, ¿no?", "año 1990: cañón", "Ça va – très bien"])
def test_a_few_words_of_an_old_western_text_are_enough(text):
    assert plain.decode(text.encode("cp1252")) == text


def test_bytes_that_are_no_letters_are_not_guessed():
    with pytest.raises(Unreadable, match="not_text"):
        plain.decode(bytes(range(256)) * 4)


def test_text_is_normalised_and_has_nothing_unseen():
    assert clean("ﬁn\r\nuno\u00a0dos") == "fin\nuno dos"
    assert clean("a\u202eb\u00adc\u200bd\x00e\U000e0041f\ud800g") == "abcdefg"
    assert clean("a  \n\n\n\n b") == "a\n\n b"
    assert clean("می\u200cخواهم") == "می\u200cخواهم"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("river;length\nEbro;930\nDuero;897\n", "river: Ebro\nlength: 930\n\nriver: Duero\nlength: 897"),
        ('a,b\n"1,5","two\nlines"\n\n', "a: 1,5\nb: two lines"),
        ("1,2\n3,4\n", "1\n2\n\n3\n4"),
        ("name,note\nEbro\nDuero,long,wide\n", "name: Ebro\n\nname: Duero\nnote: long\nwide"),
    ],
)
def test_rows_of_a_csv_say_what_their_cells_are(data, text):
    assert text_of(table.read(data.encode())) == text
