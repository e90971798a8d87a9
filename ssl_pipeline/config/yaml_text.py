"""YAML 1.2 in and out: the only reader of YAML, which refuses keys given twice and lets no two places share a value."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

MAX_VALUES = 100_000
"""Of a file, with aliases written out; a few nested aliases could otherwise fill the memory."""

# The core schema of YAML 1.2, where `on` and `no` are text, 3e-4 is a number and 1:30 is not.
_TAGS: dict[str, tuple[re.Pattern[str], list[str]]] = {
    "tag:yaml.org,2002:null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "tag:yaml.org,2002:int": (re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        re.compile(
            r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
        ),
        list("-+.0123456789"),
    ),
    "tag:yaml.org,2002:merge": (re.compile(r"^<<$"), ["<"]),
}


class YamlError(ValueError):
    """A text is not YAML, gives a key twice, or contains itself."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - as in PyYAML

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read decimal digits; PyYAML would read 010 as octal."""
        return int(self.construct_scalar(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        text = str(self.construct_scalar(node)).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else, e.g. 'yes' and '3e-4'."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _class in (_Loader, _Dumper):
    for _tag, (_pattern, _first) in _TAGS.items():
        _class.add_implicit_resolver(_tag, _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def read_yaml(text: str) -> Any:
    """Read one YAML document. Aliases and merge keys (``<<``) are copied, so that no two places share a value.

    Raises:
        YamlError: if it is not YAML, or a mapping gives a key twice; all of them are named, each with both lines.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root)
        if faults := list(_repeated_keys(root, "")):
            raise YamlError("; ".join(faults))
        return _copy(loader.construct_document(root))
    except yaml.YAMLError as error:
        raise YamlError(f"not YAML: {_describe(error)}; quote what is text") from None
    finally:
        loader.dispose()


def write_yaml(value: Any) -> str:
    """Write plain values as YAML that `read_yaml` reads back to equal ones."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def write_flow(value: Any) -> str:
    """Write plain values as YAML on one line.

    >>> write_flow({"name": "age", "values": ["<30", "no"]})
    "{name: age, values: [<30, 'no']}"
    """
    text = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=float("inf")
    )
    return text.removesuffix("...\n").strip()


def _describe(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', error)}"


def _repeated_keys(node: yaml.Node, prefix: str) -> Iterator[str]:
    """Yield the keys that a mapping below the node gives twice. Merged keys are no repetition: own keys replace them."""
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield from _repeated_keys(item, f"{prefix}{position}.")
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = f"lines {lines[name]} and {line}" if lines[name] != line else f"line {line}"
                yield f"'{prefix}{name}': given twice, in {where}; keep one of them"
            lines[name] = line
            yield from _repeated_keys(value, f"{prefix}{name}.")


def _check_size(root: yaml.Node) -> None:
    """Refuse a node that contains itself, and more than MAX_VALUES nodes with aliases written out."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, parents: frozenset[int]) -> int:
        if id(node) in parents:
            raise YamlError(f"line {node.start_mark.line + 1}: an alias contains itself")
        if id(node) not in sizes:
            inner = parents | {id(node)}
            children = node.value if isinstance(node, yaml.CollectionNode) else []
            flat = [child for item in children for child in (item if isinstance(item, tuple) else (item,))]
            sizes[id(node)] = 1 + sum(size(child, inner) for child in flat)
        return sizes[id(node)]

    if size(root, frozenset()) > MAX_VALUES:
        raise YamlError(f"more than {MAX_VALUES:,} values, with aliases written out")


def _copy(value: Any) -> Any:
    """Copy mappings and lists at every place where they stand; `copy.deepcopy` would keep what two places share."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
