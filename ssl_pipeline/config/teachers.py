"""Config sections of teachers: a trained network, or a linear head on the features of a frozen network, ONNX file or table."""

from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from ssl_pipeline.config.base import SOURCE_NAME, Section
from ssl_pipeline.config.training import ModelConfig, RoleConfig

_Triple = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


class Embedding(Section):
    """How an image becomes the input of a fixed network; its features are kept in the run."""

    center_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Side of the centered square that the network sees, as a fraction of the face's side."""
    mirror: bool = True
    """Average the features with those of the mirrored face."""


class TimmEmbedding(Embedding):
    """Pooled features of a frozen timm network."""

    architecture: str
    pretrained: bool = True
    """Download the weights from timm's hub, unless there is a weights_file."""
    weights_file: Path | None = None
    image_size: Annotated[int, Field(ge=16, le=1024)] | None = None
    """Side in pixels that the network sees; None: the side that it was made for."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.pretrained and self.weights_file is None:
            raise ValueError(
                "features of random weights teach nothing: set weights_file to a local file, or --set pretrained=true"
            )
        return self


class OnnxEmbedding(Embedding):
    """An output of an ONNX file, computed by OpenCV: the input is (x / 255 − mean) / std, float32 [N, 3, S, S]."""

    file: Path
    input_name: str | None = None
    """None: the only one."""
    output_name: str | None = None
    """None: the last one."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 112
    """S: the side in pixels that the network sees."""
    mean: _Triple = (0.485, 0.456, 0.406)
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=3, max_length=3)] = (0.229, 0.224, 0.225)
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the input's channels; mean and std are in the same order."""


class TeacherBase(Section):
    """Common keys of teachers that vote."""

    name: Annotated[str, Field(pattern=SOURCE_NAME)] | None = None
    """Folder of the teacher among several; None: its type, or its type and position."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the vote, relative to the others."""


class HeadTeacher(TeacherBase):
    """Logistic regression (scikit-learn) on standardized features."""

    head: Literal["joint", "per_attribute"] = "per_attribute"
    """One softmax over all classes, or one per attribute."""
    inverse_regularization: Annotated[float, Field(gt=0)] = 0.01
    """scikit-learn's C: less of it regularizes more."""
    class_balanced: bool = True
    """Every value has the same total weight."""


class NetworkTeacher(RoleConfig, TeacherBase):
    """A network that is trained on the labeled faces."""

    type: Literal["network"] = "network"

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return all values that the trained weights depend on."""
        return {
            key: value for key, value in super().fingerprint_fields().items() if key not in ("type", "name", "weight")
        }


class FrozenTeacher(TimmEmbedding, HeadTeacher):
    """A linear head on the pooled features of a frozen timm network."""

    type: Literal["frozen"]

    @property
    def embedding(self) -> TimmEmbedding:
        """The settings of the features alone."""
        return TimmEmbedding(**{name: getattr(self, name) for name in TimmEmbedding.model_fields})


class OnnxTeacher(OnnxEmbedding, HeadTeacher):
    """A linear head on an output of an ONNX file."""

    type: Literal["onnx"]

    @property
    def embedding(self) -> OnnxEmbedding:
        """The settings of the features alone."""
        return OnnxEmbedding(**{name: getattr(self, name) for name in OnnxEmbedding.model_fields})


class FeaturesTeacher(HeadTeacher):
    """A linear head on features that the user brings."""

    type: Literal["features"]
    file: Path
    """Parquet: image_id or image_path, and a column of vectors, e.g. from `ssl-pipeline embed`."""
    column: str = "vector"


EmbeddingTeacher = FrozenTeacher | OnnxTeacher | FeaturesTeacher
Teacher = NetworkTeacher | EmbeddingTeacher


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[list]"  # brackets: no part of a key in messages
    return str(value.get("type", "network") if isinstance(value, dict) else getattr(value, "type", "network"))


_Item = Annotated[
    Annotated[NetworkTeacher, Tag("network")]
    | Annotated[FrozenTeacher, Tag("frozen")]
    | Annotated[OnnxTeacher, Tag("onnx")]
    | Annotated[FeaturesTeacher, Tag("features")],
    Discriminator(_kind),
]
TeacherConfig = Annotated[
    Annotated[NetworkTeacher, Tag("network")]
    | Annotated[FrozenTeacher, Tag("frozen")]
    | Annotated[OnnxTeacher, Tag("onnx")]
    | Annotated[FeaturesTeacher, Tag("features")]
    | Annotated[tuple[_Item, ...], Field(min_length=1), Tag("[list]")],
    Discriminator(_kind),
]
"""One teacher, or a list of teachers that vote."""


def teacher_names(teachers: tuple[Teacher, ...]) -> tuple[str, ...]:
    """Return the teachers' names; of those without one, the type, and the position where a type occurs again."""
    types = [teacher.type for teacher in teachers]
    return tuple(
        teacher.name or (teacher.type if types.count(teacher.type) == 1 else f"{teacher.type}-{position}")
        for position, teacher in enumerate(teachers)
    )


_NETWORK_KEYS = ("architecture", "head", "input_size")
"""Keys of a model on which the shapes of its weights depend."""


def unequal_keys(teacher: NetworkTeacher, student: ModelConfig) -> list[str]:
    """Return the keys by which a teacher's weights do not fit the student; none if they fit."""
    return [key for key in _NETWORK_KEYS if getattr(teacher.model, key) != getattr(student, key)]


def no_start_teacher(teachers: Mapping[str, Teacher], student: ModelConfig) -> str:
    """Say that no teacher's weights fit the student, and how the most similar teacher differs.

    Args:
        teachers: by their keys in the config.
        student: its model.
    """
    networks = {key: teacher for key, teacher in teachers.items() if isinstance(teacher, NetworkTeacher)}
    if not networks:
        return "student.init: no teacher is a network; --set student.init=auto"

    def distance(key: str) -> tuple[int, float]:
        own = networks[key].model.architecture
        alike = SequenceMatcher(None, own, student.architecture).ratio()
        return len(unequal_keys(networks[key], student)), -alike

    closest = min(networks, key=distance)
    unequal = ", ".join(
        f"{closest}.model.{key} is {getattr(networks[closest].model, key)}, the student's {getattr(student, key)}"
        for key in unequal_keys(networks[closest], student)
    )
    return (
        f"student.init: no teacher is a network like the student ({', '.join(_NETWORK_KEYS)}; closest: {unequal}); "
        "--set student.init=auto, or give both the same model"
    )
