"""Check of a config before any work: execution, face detector, models, optimizers, processes."""

from ssl_pipeline.config.messages import with_whole_keys
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError, FaceTableError, list_of_faults
from ssl_pipeline.execution.shards import check_execution
from ssl_pipeline.faces.cropper import detector_identity
from ssl_pipeline.learning.device import check_processes, resolve_device
from ssl_pipeline.learning.network_check import check_network


def check(config: RunConfig) -> None:
    """Check that everything the config needs is available here.

    Raises:
        ConfigError: listing every fault.
    """
    if faults := find_faults(config):
        raise ConfigError(list_of_faults("the config needs what is not available here", faults))


def find_faults(config: RunConfig) -> list[str]:
    """Describe what the config needs and is not available here."""
    faults = []
    try:
        check_execution(config.execution, device=resolve_device(config.device).type)
    except ConfigError as error:
        faults.append(str(error))
    try:
        detector_identity(config.faces.cropping)
    except FaceTableError as error:
        faults.append(f"'faces.cropping': {error}")
    for key, role in (("teacher", config.teacher), ("student", config.student)):
        teaches = key == "teacher" or config.rounds > 1
        try:
            check_network(
                role,
                key=key,
                labels=config.labels.space,
                image_size=config.faces.image_size,
                needs_features=config.shift is not None and teaches,
            )
        except ConfigError as error:
            faults.append(str(error))
        try:
            check_processes(role.training.num_processes, config.device)
        except ConfigError as error:
            faults.append(f"'{key}.training': {with_whole_keys(str(error), f'{key}.training')}")
    return faults
