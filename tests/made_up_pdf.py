"""PDF files made up for tests, byte by byte."""

import zlib
from collections.abc import Sequence


def pdf(*pages: str, title: str = "", author: str = "", created: str = "", streams: Sequence[bytes] = ()) -> bytes:
    """A PDF with a page for each of `pages`, its lines one below the other; or with these content `streams`."""
    contents = [zlib.compress(stream) for stream in streams] or [zlib.compress(_shown(page)) for page in pages]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(contents)))
    info = f"/Title ({title}) /Author ({author}) /CreationDate ({created})"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, content in enumerate(contents):
        page = f"/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R"
        objects.append(f"<< {page} /Resources << /Font << /F1 3 0 R >> >> >>".encode())
        head = f"<< /Length {len(content)} /Filter /FlateDecode >>\nstream\n".encode()
        objects.append(head + content + b"\nendstream")
    objects.append(f"<< {info} >>".encode("latin-1"))
    return _file(objects)


def _shown(page: str) -> bytes:
    lines = "\n".join(f"({line}) Tj T*" for line in page.splitlines())
    return f"BT /F1 12 Tf 14 TL 72 720 Td {lines} ET".encode("latin-1")


def _file(objects: Sequence[bytes]) -> bytes:
    written = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table
    written += b"trailer << /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (len(objects) + 1, len(objects))
    return bytes(written + b"startxref\n%d\n%%%%EOF\n" % start)
