"""Differences of scores as text."""


def signed(points: float) -> str:
    """Format a difference with its sign and one decimal; without a sign if it rounds to zero.

    >>> [signed(2.04), signed(-0.06), signed(-0.04), signed(0.0)]
    ['+2.0', '-0.1', '0.0', '0.0']
    """
    text = f"{points:+.1f}"
    return text if float(text) else "0.0"
