"""Version of each stage's code, part of its record: another version works again.

Raise a stage's number when a change of the code changes its results. `tests/stages/test_versions.py` fails when the code
that a stage runs has changed, and says what to do.
"""

from typing import Final

VERSIONS: Final = {
    "prepare": 2,
    "train": 4,
    "features": 1,
    "face_features": 1,
    "head": 1,
    "vote": 1,
    "calibrate": 1,
    "cross_fit": 3,
    "predict": 2,
    "shift": 3,
    "draws": 1,
    "select": 2,
    "evaluate": 1,
    "cost": 1,
}
