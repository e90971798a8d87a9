"""A simple head model, and its pose estimated from landmarks.

Head frame: origin midway between the eyes, x to the picture's right, y down, z towards the camera; the unit is the eye
distance.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

EYES, NOSE, MOUTH, CHIN = ((-0.5, 0.0, 0.0), (0.5, 0.0, 0.0)), (0.0, 0.55, 0.42), (0.0, 1.01, 0.22), (0.0, 1.68, 0.1)
_MODEL = np.array([*EYES, NOSE, MOUTH, CHIN])
# By height: half the width of the face, and the depth of its middle line (z, without the nose).
_WIDTH_AT = np.array([(-0.2, 1.04), (0.3, 1.03), (0.7, 0.98), (1.0, 0.91), (1.3, 0.78), (1.5, 0.62), (1.72, 0.34)])
_DEPTH_AT = np.array(
    [(-0.2, 0.12), (0.1, 0.14), (0.6, 0.2), (1.0, 0.24), (1.4, 0.2), (1.6, 0.14), (1.75, -0.02), (2.0, -0.45)]
)
_YAW_SPREAD, _PITCH_SPREAD, _STRETCH_SPREAD = np.radians(25), np.radians(8), 0.09
_LANDMARK_SPREAD = 0.03  # in eye distances
_NUM_STEPS = 8


@dataclass(frozen=True)
class Landmarks:
    """Points of a face in pixels, x to the right, y down; left and right as seen in the picture.

    Attributes:
        points: float [5, 2]: left eye, right eye, tip of the nose, left and right corner of the mouth.
        chin: float [2], or None if unknown.
    """

    points: FloatArray
    chin: FloatArray | None = None


@dataclass(frozen=True)
class HeadPose:
    """Transform from the head frame to pixels: rotation, scale and shift (weak perspective).

    Attributes:
        matrix: float [2, 3], pixels per unit.
        origin: float [2], pixel midway between the eyes.
        view: float [3], direction towards the camera in the head frame.
        scale: pixels per unit in a frontal view.
        yaw_degrees: positive if the nose points to the picture's right.
    """

    matrix: FloatArray
    origin: FloatArray
    view: FloatArray
    scale: float
    yaw_degrees: float

    def project(self, points: FloatArray) -> FloatArray:
        """Project points [..., 3] to pixels [..., 2]."""
        return points @ self.matrix.T + self.origin


def half_width(y: FloatArray) -> FloatArray:
    """Return half the width of the face at heights y."""
    return np.asarray(np.interp(y, _WIDTH_AT[:, 0], _WIDTH_AT[:, 1]))


def middle_depth(y: FloatArray) -> FloatArray:
    """Return the depth (z) of the face's middle line at heights y, without the nose."""
    return np.asarray(np.interp(y, _DEPTH_AT[:, 0], _DEPTH_AT[:, 1]))


def fit_pose(landmarks: Landmarks) -> HeadPose:
    """Fit rotation, scale, shift and face length to the landmarks, by Gauss-Newton with priors.

    The corners of the mouth are averaged, since a smile moves them. The position of the nose relative to eyes and mouth
    determines the yaw. Pitch and face length are hardly distinguishable, so priors keep both near the mean.
    """
    left, right, nose, *corners = landmarks.points
    observed = np.array([left, right, nose, np.mean(corners, axis=0)])
    if landmarks.chin is not None:
        observed = np.concatenate([observed, landmarks.chin[None]])
    model = _MODEL[: len(observed)]
    across = right - left
    unit = max(float(np.hypot(*across)), float(np.hypot(*(observed[3] - (left + right) / 2))), 1e-6)
    state = np.array(
        [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2, unit, np.arctan2(across[1], across[0]), 0, 0, 1.0]
    )
    steps = np.array([0.01 * unit, 0.01 * unit, 0.01 * unit, 1e-3, 1e-3, 1e-3, 1e-3])
    for _ in range(_NUM_STEPS):
        residual = _residual(state, model, observed, unit)
        jacobian = np.stack(
            [(_residual(state + step * axis, model, observed, unit) - residual) / step
             for step, axis in zip(steps, np.eye(7), strict=True)], axis=1)  # fmt: skip
        change = np.linalg.lstsq(jacobian, -residual, rcond=None)[0]
        state = state + change
        state[4:6] = np.clip(state[4:6], -1.2, 1.2)
    rotation, scale = _rotation(state), float(abs(state[2]))
    matrix = scale * rotation[:2] * (1, state[6], 1)
    return HeadPose(matrix, state[:2], rotation[2], scale, float(np.degrees(state[4])))


def _rotation(state: FloatArray) -> FloatArray:
    """Return the rotation matrix [3, 3] of roll, yaw and pitch."""
    roll, yaw, pitch = state[3:6]
    (cr, sr), (cy, sy), (cp, sp) = ((np.cos(angle), np.sin(angle)) for angle in (roll, yaw, pitch))
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return np.asarray(about_z @ about_y @ about_x)


def _residual(state: FloatArray, model: FloatArray, observed: FloatArray, unit: float) -> FloatArray:
    """Return the residuals of landmarks and priors, in standard deviations."""
    projected = state[2] * (model * (1, state[6], 1)) @ _rotation(state)[:2].T + state[:2]
    errors = (projected - observed) / (unit * _LANDMARK_SPREAD)
    priors = state[4:7] / (_YAW_SPREAD, _PITCH_SPREAD, _STRETCH_SPREAD) - (0, 0, 1 / _STRETCH_SPREAD)
    return np.concatenate([errors.ravel(), priors])
