"""The JSON schema of a config, for editors: completion, descriptions and checks while typing.

python -m ssl_pipeline.config.json_schema        writes configs/schema.json
"""

import json
from pathlib import Path
from typing import Any

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.shipped import SCHEMA


def build_schema() -> dict[str, Any]:
    """Return the JSON schema of a config file, in which no key is required: a config may extend another.

    Keys are described by the docstrings below them, if no section was imported before: pydantic reads them from the
    source, which takes too long for every start.
    """
    Section.model_config["use_attribute_docstrings"] = True
    from ssl_pipeline.config.run import RunConfig

    schema = RunConfig.model_json_schema()
    _loosen(schema)
    name = {"type": "string"}
    schema["properties"] = {
        "extends": {
            "description": "A config, or several, whose values this one starts from: a path relative to it, or a shipped name.",
            "anyOf": [name, {"type": "array", "items": name}],
        },
        **schema["properties"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _loosen(node: Any) -> None:
    """Require no key, so that any of several sections may fit; drop titles, which repeat the keys."""
    if isinstance(node, list):
        for child in node:
            _loosen(child)
    if not isinstance(node, dict):
        return
    for key, kind in (("required", list), ("title", str), ("discriminator", dict)):
        if isinstance(node.get(key), kind):
            del node[key]
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    for child in node.values():
        _loosen(child)


if __name__ == "__main__":
    Path("configs", SCHEMA).write_text(
        json.dumps(build_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
