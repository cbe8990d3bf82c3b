"""Content-Encoding, decoded within bounds. The HTTP client's own decoder passes unknown and truncated encodings on."""

import zlib

_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_MAGIC = 0x1F
_SUPPORTED = _GZIP | {"deflate"}
ACCEPTED = "gzip, deflate"
_MAX_MEMBERS = 10_000  # of a gzip file; each costs time, and 50 MB can hold millions of empty ones


class UndecodableError(Exception):
    """The body is not in the encoding that its header names, or in one that is not supported."""


class Decoder:
    """Decodes a body piece by piece; one for each response."""

    def __init__(self, content_encoding: str) -> None:
        """Take the value of the Content-Encoding header. Raises `UndecodableError` for one that is not supported."""
        names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
        if len(names) > 1 or not _SUPPORTED.issuperset(names):
            raise UndecodableError(content_encoding)
        self._encoding = names[0] if names else ""
        self._stream: zlib._Decompress | None = None
        self._ended = False
        self._members = 0

    def decode(self, data: bytes, limit: int) -> bytes:
        """Decode the next piece to at most `limit` bytes; more than that is thrown away."""
        if not self._encoding:
            return data[:limit]
        decoded = b""
        while data and len(decoded) < limit and not self._ended:
            if self._stream is None:
                self._stream = self._new_stream(data)
            elif self._stream.eof:
                if self._encoding == "deflate" or data[0] != _GZIP_MAGIC:
                    self._ended = True  # what follows is rubbish; browsers ignore it too
                    break
                self._stream = self._new_stream(data)
            try:
                decoded += self._stream.decompress(data, limit - len(decoded))
            except zlib.error as error:
                raise UndecodableError(str(error)) from error
            data = self._stream.unused_data
        return decoded

    @property
    def is_truncated(self) -> bool:
        """Whether the end of the encoded data has not been seen."""
        return self._stream is not None and not self._stream.eof

    def _new_stream(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise UndecodableError("too many gzip members")
        if self._encoding in _GZIP:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # "deflate" is zlib by the standard and raw in the wild; the first byte of zlib tells.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)
