"""Whether the API server of a Kubernetes version would accept a manifest, as far as schemas tell."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # has no stubs
import kubernetes_validate  # type: ignore[import-untyped]  # has no stubs
from deployment.manifests import Manifest, name_of

CRDS = Path(__file__).parent / "crds"


def accepted(manifests: Sequence[Manifest], version: str) -> Iterator[str]:
    """A line for each manifest that does not keep to its schema, which is closed to fields that it does not name."""
    for one in manifests:
        file = CRDS / f"{one['apiVersion'].replace('/', '_')}_{one['kind']}.json"
        try:
            if file.exists():
                _keep_to(file, one)
            else:
                kubernetes_validate.validate(one, version, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            yield f"{name_of(one)}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{name_of(one)}: {version} has no such kind"


def _keep_to(crd: Path, manifest: Manifest) -> None:
    """Raise ValidationError unless a custom resource keeps to its schema, which is believed: checking it takes long."""
    validator = jsonschema.Draft202012Validator(json.loads(crd.read_text()))
    if error := jsonschema.exceptions.best_match(validator.iter_errors(manifest)):
        raise error
