"""What the words of the command line may be; what else is given is an argument error of one line."""

import argparse
from pathlib import Path
from urllib.parse import urlsplit

from tallyho.gateway import DEFAULT_URL


def number(text: str) -> int:
    """A whole number, 0 or above."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def lines(text: str) -> int:
    """A number of lines."""
    if not 1 <= (wanted := number(text)) <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 1000")
    return wanted


def number_or_none(text: str) -> int | None:
    """A whole number, or the word none."""
    return None if text == "none" else number(text)


def seconds_or_none(text: str) -> float | None:
    """A number of seconds, or the word none."""
    if text == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to 3600")
    return seconds


def export_file(text: str) -> Path:
    """A file, which can be gone on with."""
    if text == "-":
        raise argparse.ArgumentTypeError("an export is a file; the gateway streams: GET /v1/jobs/JOB/contents")
    return Path(text)


def is_address(text: str, *schemes: str) -> bool:
    """Whether it is a URL of one of these schemes, with a host that can be connected to."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def gateway_url(text: str) -> str:
    """The text, when it is an address that a gateway can have."""
    if not is_address(text, "http", "https"):
        raise argparse.ArgumentTypeError(f"{text!r} is no address like {DEFAULT_URL}")
    return text
