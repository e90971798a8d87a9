"""Check of a config before any work: execution, face detector, models, optimizers, processes."""

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError, FaceTableError, list_of_faults
from ssl_pipeline.execution.shards import check_execution
from ssl_pipeline.faces.cropper import detector_identity
from ssl_pipeline.learning.device import check_processes, resolve_device
from ssl_pipeline.learning.model import check_architecture
from ssl_pipeline.learning.optimizers import check_optimizer


def check(config: RunConfig) -> None:
    """Check that everything the config needs is available here.

    Raises:
        ConfigError: listing every fault.
    """
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
        try:
            check_architecture(role.model)
        except ConfigError as error:
            faults.append(f"'{key}.model': {error}")
            continue
        try:
            check_optimizer(role)
        except ConfigError as error:
            faults.append(f"'{key}.training.optimizer': {error}")
        try:
            check_processes(role.training.num_processes, config.device)
        except ConfigError as error:
            faults.append(f"'{key}.training': {error}")
    if faults:
        raise ConfigError(list_of_faults("the config needs what is not available here", faults))
