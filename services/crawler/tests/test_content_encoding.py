"""Decoding bodies from their Content-Encoding."""

import gzip
import zlib

import pytest
from crawler.content_encoding import Decoder, UndecodableError

TEXT = b"A page that compresses. " * 400


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def decoded(data: bytes, encoding: str, *, piece: int = 7, limit: int = 1 << 20) -> tuple[bytes, bool]:
    decoder = Decoder(encoding)
    body = b""
    for start in range(0, len(data), piece):
        body += decoder.decode(data[start : start + piece], limit - len(body))
    return body, decoder.is_truncated


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT, ""),
        (TEXT, "identity"),
        (gzip.compress(TEXT), "gzip"),
        (gzip.compress(TEXT), " X-GZip , identity"),
        (gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:]), "gzip"),
        (gzip.compress(TEXT) + b"rub\x1fbish", "gzip"),
        (zlib.compress(TEXT), "deflate"),
        (raw_deflate(TEXT), "deflate"),
    ],
    ids=["plain", "identity", "gzip", "x-gzip", "gzip in two parts", "gzip and rubbish", "zlib", "deflate"],
)
def test_body_is_decoded_whatever_its_pieces(data: bytes, encoding: str, piece: int) -> None:
    assert decoded(data, encoding, piece=piece) == (TEXT, False)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "gzip, gzip", "nonsense"])
def test_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(UndecodableError):
        Decoder(encoding)


@pytest.mark.parametrize(("data", "encoding"), [(TEXT, "gzip"), (b"\x08" + TEXT, "deflate"), (b"\xff" * 99, "deflate")])
def test_body_that_is_not_what_its_header_says_is_refused(data: bytes, encoding: str) -> None:
    with pytest.raises(UndecodableError):
        decoded(data, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_body_that_was_cut_short_is_noticed(encoding: str) -> None:
    whole = gzip.compress(TEXT) if encoding == "gzip" else zlib.compress(TEXT)

    assert all(decoded(whole[:end], encoding)[1] for end in range(1, len(whole)))


def test_no_body_at_all_is_not_truncated() -> None:
    assert decoded(b"", "gzip") == (b"", False)


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
def test_no_more_than_the_limit_comes_out(encoding: str) -> None:
    bomb = b"\0" * (1 << 24)
    data = {"": bomb, "gzip": gzip.compress(bomb), "deflate": zlib.compress(bomb)}[encoding]

    assert decoded(data, encoding, piece=1 << 16, limit=1000)[0] == b"\0" * 1000


@pytest.mark.parametrize("piece", [1 << 10, 1 << 20])
def test_body_in_more_parts_than_anyone_needs_is_refused(piece: int) -> None:
    assert decoded(gzip.compress(b"x") * 9_000, "gzip", piece=piece) == (b"x" * 9_000, False)
    with pytest.raises(UndecodableError):
        decoded(gzip.compress(b"") * 11_000, "gzip", piece=piece)
