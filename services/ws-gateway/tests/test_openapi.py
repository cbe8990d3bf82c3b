"""The OpenAPI document is valid, and describes the routes that are served."""

from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator
from ws_gateway import access, contents, events, firecrawl_api, http_api, ledger, openapi


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


async def test_served_document_is_valid_openapi(gateway: Any) -> None:
    response = await gateway.http.get("/v1/openapi.json")

    OpenAPIV31SpecValidator(await response.json()).validate()


def test_references_of_the_document_lead_somewhere() -> None:
    document = openapi.document()
    schemas = {openapi.SCHEMAS + name for name in document["components"]["schemas"]}

    assert references(document) <= schemas


def test_document_describes_every_route_of_the_api() -> None:
    described = {
        (method.upper(), path) for path, operations in openapi.document()["paths"].items() for method in operations
    }

    modules = (http_api, ledger, contents, events, access, firecrawl_api)
    served = [route for module in modules for route in module.routes()]
    assert described == {(route.method, route.path) for route in served}
