"""A config's trial: the same stages on little, to see in a minute or two that all of them work."""

from ssl_pipeline.config.run import RunConfig

STEPS, POOL_FACES = 2, 200


def trial_overrides(config: RunConfig) -> list[str]:
    """Return the overrides that make a run a trial: few steps, few faces of the pool, and every label of it accepted.

    The labeled faces stay, so that the splits are those of the run; so do the networks and their settings.

    Args:
        config: of the run.
    """
    overrides = [f"run_name={config.run_name}-trial", "storage=null", "track=[]", "review=none"]
    for key in config.roles:
        training = f"{key}.training"
        overrides += [
            f"{training}.epochs=null",
            f"{training}.steps={STEPS}",
            f"{training}.scheduler={{type: cosine}}",
            f"{training}.early_stopping_epochs=null",
            f"{training}.optimizer.freeze_backbone_epochs=0",
        ]
    for position, source in enumerate(config.faces.unlabeled.sources):
        limit = min(source.limit or POOL_FACES, POOL_FACES)
        overrides.append(f"faces.unlabeled.sources.{position}.limit={limit}")
    return [*overrides, "selection={type: fixed_threshold, confidence_threshold: 0.01, guards: {on_fault: warn}}"]
