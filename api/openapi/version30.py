"""OpenAPI 3.1, as FastAPI makes it, to 3.0, as OGC API - Features asks for (conformance class `oas30`).

The differences are those between JSON Schema 2020-12 and the Schema Object of OpenAPI 3.0.3, section 4.7.24.
"""

from typing import Any


def downgraded(document: dict[str, Any]) -> dict[str, Any]:
    """The document in OpenAPI 3.0.3."""
    changed: dict[str, Any] = _walk(document)
    changed["openapi"] = "3.0.3"
    changed["info"] = {k: v for k, v in changed["info"].items() if k != "summary"}
    if "summary" in document["info"]:
        changed["info"]["description"] = document["info"]["summary"]
    return changed


def _walk(node: Any) -> Any:
    if isinstance(node, list):
        return [_walk(v) for v in node]
    if not isinstance(node, dict):
        return node
    out = {k: _walk(v) for k, v in node.items()}
    if isinstance(node.get("properties"), dict) or isinstance(node.get("type"), str) or "anyOf" in node:
        return _schema(out)
    return out


def _schema(node: dict[str, Any]) -> dict[str, Any]:
    """One schema whose parts have been changed already."""
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [c for c in choices if c != {"type": "null"}]
        node = {k: v for k, v in node.items() if k != "anyOf"}
        node["nullable"] = True
        if len(rest) == 1 and "$ref" not in rest[0]:
            node = {**rest[0], **node}
        else:
            node["allOf" if len(rest) == 1 else "anyOf"] = rest
    for exclusive, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(node.get(exclusive), (int, float)) and not isinstance(node.get(exclusive), bool):
            node[plain], node[exclusive] = node[exclusive], True
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if isinstance(node.get("examples"), list):
        node["example"] = node.pop("examples")[0]
    if "prefixItems" in node:
        node["items"] = {"anyOf": node.pop("prefixItems")}
    if "patternProperties" in node:
        schemas = list(node.pop("patternProperties").values())
        node["additionalProperties"] = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if isinstance(node.get("additionalProperties"), dict):
        node.pop("propertyNames", None)
    return node
