"""A simple head: where its points lie in space, and how it is turned, from a few landmarks in a picture.

The head's frame: the origin midway between the eyes, x to the picture's right, y down, z towards the camera, the
distance between the eyes as the unit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

EYES, NOSE, MOUTH, CHIN = ((-0.5, 0.0, 0.0), (0.5, 0.0, 0.0)), (0.0, 0.55, 0.42), (0.0, 1.01, 0.22), (0.0, 1.68, 0.1)
_MODEL = np.array([*EYES, NOSE, MOUTH, CHIN])
# Half the face's width, and how far its middle line lies before the eyes, both without the nose, by height.
_WIDTH_AT = np.array([(-0.2, 1.04), (0.3, 1.03), (0.7, 0.98), (1.0, 0.91), (1.3, 0.78), (1.5, 0.62), (1.72, 0.34)])
_DEPTH_AT = np.array(
    [(-0.2, 0.12), (0.1, 0.14), (0.6, 0.2), (1.0, 0.24), (1.4, 0.2), (1.6, 0.14), (1.75, -0.02), (2.0, -0.45)]
)
_YAW_SPREAD, _PITCH_SPREAD, _STRETCH_SPREAD = np.radians(25), np.radians(8), 0.09
_POINT_SPREAD = 0.03  # of a landmark, in distances between the eyes
_STEPS = 8


@dataclass(frozen=True)
class Landmarks:
    """A face's points in pixels of its picture, x to the right, y down; left and right are the picture's.

    Attributes:
        points: float [5, 2]: left eye, right eye, tip of the nose, left and right corner of the mouth.
        chin: float [2], or None where it is not known.
    """

    points: FloatArray
    chin: FloatArray | None = None


@dataclass(frozen=True)
class HeadPose:
    """From the head's frame to pixels, by a turn, a scale and a shift (weak perspective).

    Attributes:
        matrix: float [2, 3], pixels per unit.
        origin: float [2], the pixel midway between the eyes.
        toward: float [3], the direction in the head's frame that looks into the camera.
        scale: pixels per unit, seen from the front.
        yaw_degrees: positive where the nose points to the picture's right.
    """

    matrix: FloatArray
    origin: FloatArray
    toward: FloatArray
    scale: float
    yaw_degrees: float

    def place(self, points: FloatArray) -> FloatArray:
        """Give the pixels [..., 2] of points [..., 3]."""
        return points @ self.matrix.T + self.origin


def half_width(y: FloatArray) -> FloatArray:
    """Half the width of the face at heights y."""
    return np.asarray(np.interp(y, _WIDTH_AT[:, 0], _WIDTH_AT[:, 1]))


def middle_depth(y: FloatArray) -> FloatArray:
    """How far the face's middle line lies before the eyes at heights y, the nose left out."""
    return np.asarray(np.interp(y, _DEPTH_AT[:, 0], _DEPTH_AT[:, 1]))


def fit_pose(landmarks: Landmarks) -> HeadPose:
    """Fit turn, scale, shift and the face's length to the landmarks, by Gauss-Newton with priors.

    The corners of the mouth count by their middle, since a smile moves them. The yaw shows in how the nose lies
    against eyes and mouth; pitch and the face's length can hardly be told apart, so both are held near the usual.
    """
    left, right, nose, *corners = landmarks.points
    seen = np.array([left, right, nose, np.mean(corners, axis=0)])
    if landmarks.chin is not None:
        seen = np.concatenate([seen, landmarks.chin[None]])
    model = _MODEL[: len(seen)]
    across = right - left
    unit = max(float(np.hypot(*across)), float(np.hypot(*(seen[3] - (left + right) / 2))), 1e-6)
    state = np.array(
        [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2, unit, np.arctan2(across[1], across[0]), 0, 0, 1.0]
    )
    steps = np.array([0.01 * unit, 0.01 * unit, 0.01 * unit, 1e-3, 1e-3, 1e-3, 1e-3])
    for _ in range(_STEPS):
        residual = _residual(state, model, seen, unit)
        jacobian = np.stack(
            [(_residual(state + step * axis, model, seen, unit) - residual) / step
             for step, axis in zip(steps, np.eye(7), strict=True)], axis=1)  # fmt: skip
        change = np.linalg.lstsq(jacobian, -residual, rcond=None)[0]
        state = state + change
        state[4:6] = np.clip(state[4:6], -1.2, 1.2)
    turn, scale = _turn(state), float(abs(state[2]))
    matrix = scale * turn[:2] * (1, state[6], 1)
    return HeadPose(matrix, state[:2], turn[2], scale, float(np.degrees(state[4])))


def _turn(state: FloatArray) -> FloatArray:
    """The rotation [3, 3] of roll, yaw and pitch."""
    roll, yaw, pitch = state[3:6]
    (cr, sr), (cy, sy), (cp, sp) = ((np.cos(angle), np.sin(angle)) for angle in (roll, yaw, pitch))
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return np.asarray(about_z @ about_y @ about_x)


def _residual(state: FloatArray, model: FloatArray, seen: FloatArray, unit: float) -> FloatArray:
    """What is left between the points seen and the model's, and between the state and the usual, in spreads."""
    placed = state[2] * (model * (1, state[6], 1)) @ _turn(state)[:2].T + state[:2]
    off = (placed - seen) / (unit * _POINT_SPREAD)
    priors = state[4:7] / (_YAW_SPREAD, _PITCH_SPREAD, _STRETCH_SPREAD) - (0, 0, 1 / _STRETCH_SPREAD)
    return np.concatenate([off.ravel(), priors])
