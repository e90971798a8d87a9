"""Check of a config before any work: execution, face detector, models, optimizers, processes."""

import re

import torch

from ssl_pipeline.config.messages import with_whole_keys
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.teachers import EmbeddingTeacher, FeaturesTeacher, FrozenTeacher, NetworkTeacher
from ssl_pipeline.errors import CheckpointError, ConfigError, FaceTableError, list_of_faults
from ssl_pipeline.execution.shards import check_execution
from ssl_pipeline.faces.cropper import detector_identity
from ssl_pipeline.faces.feature_table import read_feature_table
from ssl_pipeline.learning.backbones import check_hub
from ssl_pipeline.learning.device import check_processes, resolve_device
from ssl_pipeline.learning.embedders import OnnxEmbedder, embedding_digest, network_of, timm_image_size
from ssl_pipeline.learning.engine import find_engine_faults
from ssl_pipeline.learning.network_check import check_network
from ssl_pipeline.learning.trackers import find_missing_trackers

_NO_RANDOM_WEIGHTS = re.compile(r"--set pretrained=false, or |, or --set pretrained=false")
"""A cure of networks that is none for fixed features: those of random weights are refused."""


def check(config: RunConfig) -> None:
    """Check that everything the config needs is available here.

    Raises:
        ConfigError: listing every fault.
    """
    if faults := find_faults(config):
        raise ConfigError(list_of_faults("the config needs what is not available here", faults))


def find_faults(config: RunConfig) -> list[str]:
    """Describe what the config needs and is not available here."""
    faults = find_missing_trackers(config.track)
    faults += find_engine_faults(config.prediction.engine, device=resolve_device(config.device).type)
    try:
        check_execution(config.execution, device=resolve_device(config.device).type)
    except ConfigError as error:
        faults.append(str(error))
    try:
        detector_identity(config.faces.cropping)
    except FaceTableError as error:
        faults.append(f"'faces.cropping': {error}")
    for key, teacher in zip(config.teacher_keys, config.teachers, strict=True):
        if not isinstance(teacher, NetworkTeacher):
            faults += [f"'{key}': {with_whole_keys(fault, key)}" for fault in _feature_faults(teacher)]
    for key, role in config.roles.items():
        teaches = key == config.teacher_keys[0] or (key == "student" and config.rounds > 1)
        try:
            check_network(
                role,
                key=key,
                labels=config.labels.space,
                image_size=config.faces.image_size,
                needs_features=teaches and (config.shift is not None or config.student.draws is not None),
            )
        except ConfigError as error:
            faults.append(str(error))
        try:
            check_processes(role.training.num_processes, config.device)
        except ConfigError as error:
            faults.append(f"'{key}.training': {with_whole_keys(str(error), f'{key}.training')}")
    built = not any(fault.startswith(tuple(f"'{key}.model'" for key in config.roles)) for fault in faults)
    return [*faults, *(config.start_faults if built else [])]  # a misspelled network is like no other


def _feature_faults(teacher: EmbeddingTeacher) -> list[str]:
    """Describe why the features of a teacher cannot be had here."""
    try:
        if isinstance(teacher, FeaturesTeacher):
            read_feature_table(teacher.file, teacher.column)
        elif isinstance(teacher, FrozenTeacher):
            timm_image_size(teacher.embedding)
            embedding_digest(teacher.embedding)
            check_hub(network_of(teacher.embedding))
        else:
            size = teacher.image_size
            OnnxEmbedder(teacher.embedding)(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    except (ConfigError, CheckpointError, FaceTableError) as error:
        return [_NO_RANDOM_WEIGHTS.sub("", str(error))]
    return []
