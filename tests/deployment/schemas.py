"""Whether the API server of a Kubernetes version would accept a manifest, as far as schemas tell."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jsonschema
import kubernetes_validate
from deployment.manifests import Manifest, name_of

CRDS = Path(__file__).parent / "crds"


def accepted(manifests: Sequence[Manifest], version: str) -> Iterator[str]:
    """A line for each manifest that does not keep to its schema, which is closed to fields that it does not name."""
    for one in manifests:
        file = CRDS / f"{one['apiVersion'].replace('/', '_')}_{one['kind']}.json"
        try:
            if file.exists():
                jsonschema.validate(one, json.loads(file.read_text()))
            else:
                kubernetes_validate.validate(one, version, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            yield f"{name_of(one)}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{name_of(one)}: {version} has no such kind"
