"""What may be printed to a terminal."""


def printable(text: str, *, keep: str = "") -> str:
    """The text without what could steer a terminal: anyone may have written it."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
