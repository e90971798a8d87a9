"""A tiny ONNX file, written byte by byte: the mean of each channel, [N, 3, S, S] → [N, 3]."""

from pathlib import Path


def write_mean_color(path: Path, *, size: int = 8) -> Path:
    """Write a network with the input `faces` and the outputs `pooled`, [N, 3, 1, 1], and `features`, [N, 3]."""
    nodes = [_node("GlobalAveragePool", "faces", "pooled"), _node("Flatten", "pooled", "features")]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"mean color")
    graph += _field(11, _value("faces", ["N", 3, size, size])) + _field(12, _value("features", ["N", 3]))
    path.write_bytes(_number(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, 13)))
    return path


def _node(operator: str, source: str, target: str) -> bytes:
    return _field(1, source.encode()) + _field(2, target.encode()) + _field(4, operator.encode())


def _value(name: str, shape: list[int | str]) -> bytes:
    sides = [_number(1, side) if isinstance(side, int) else _field(2, side.encode()) for side in shape]
    tensor = _number(1, 1) + _field(2, b"".join(_field(1, side) for side in sides))  # 1: float32
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    head, rest = value & 127, value >> 7
    return bytes([head | 128]) + _varint(rest) if rest else bytes([head])
