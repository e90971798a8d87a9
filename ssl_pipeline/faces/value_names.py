"""Words that people use for the same value: they suggest an attribute's name, and translate between two sets of faces."""

import re
from collections.abc import Iterable, Sequence

_WORDS = {
    "gender": {
        "male": "male man men m boy boys 남 남자 남성 男 男性 hombre homme mann",
        "female": "female woman women f girl girls 여 여자 여성 女 女性 mujer femme frau",
    },
    "mask": {
        "wear": "wear mask masked with_mask",
        "incorrect": "incorrect mask_weared_incorrect incorrect_mask",
        "normal": "normal no_mask nomask unmasked without_mask",
    },
    "age": {word: word for word in ("young", "middle", "old", "child", "adult", "senior", "teen")},
}
_AGE_RANGE = re.compile(r"^[<>≥≤=~]*\d{1,3}(\s?[-–~]\s?\d{1,3}|\+|s|대)?$")


def suggest_name(values: Iterable[str]) -> str:
    """Suggest an attribute's name from its values.

    >>> suggest_name(["Female", "Male"])
    'gender'
    """
    folded = [_fold(value) for value in values]
    for name, meanings in _WORDS.items():
        words = " ".join(meanings.values()).split()
        if all(value in words for value in folded):
            return name
    return "age" if all(_AGE_RANGE.match(value) for value in folded) else "label"


def translate(values: Iterable[str], wanted: Sequence[str]) -> dict[str, str] | None:
    """Find for each value the wanted one that means the same; None if one has none, or two wanted ones mean the same.

    >>> translate(["male", "Woman"], ["남자", "여자"])
    {'male': '남자', 'Woman': '여자'}
    """
    by_meaning = {_meaning(value): value for value in wanted}
    found = {value: by_meaning.get(_meaning(value)) for value in values}
    if len(by_meaning) < len(wanted):
        found = {value: value if value in wanted else None for value in values}
    return None if None in found.values() else {value: str(one) for value, one in found.items()}


def _meaning(value: str) -> str:
    folded = _fold(value)
    for meanings in _WORDS.values():
        for meaning, words in meanings.items():
            if folded in words.split():
                return meaning
    return folded


def _fold(value: str) -> str:
    return re.sub(r"[\s_-]+", "_", value.strip().casefold())
