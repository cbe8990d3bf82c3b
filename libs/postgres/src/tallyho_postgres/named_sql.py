"""SQL in files: each query starts with `-- name: …`, then comments that say what one row means."""

from importlib import resources
from types import MappingProxyType

NAME = "-- name: "


def load(package: str, file: str) -> MappingProxyType[str, str]:
    """The queries of `sql/<file>` in `package`, by name."""
    text = (resources.files(package) / "sql" / file).read_text("utf-8")
    queries: dict[str, str] = {}
    for block in text.split(NAME)[1:]:
        name, _, sql = block.partition("\n")
        if name.strip() in queries:
            raise ValueError(f"two queries are named {name.strip()!r} in {package}/sql/{file}")
        queries[name.strip()] = sql.strip()
    return MappingProxyType(queries)
