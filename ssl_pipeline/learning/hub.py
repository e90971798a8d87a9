"""Pretrained weights on the Hugging Face Hub: found in the local cache, else downloaded. `HF_HOME` and `HF_ENDPOINT` apply."""

from collections.abc import Sequence
from pathlib import Path

import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from timm.models import parse_model_name

from ssl_pipeline.errors import CheckpointError, ConfigError

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_OF_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TIMEOUT_SECONDS = 5.0


class HubWeights:
    """The pretrained weights of one architecture."""

    def __init__(self, architecture: str) -> None:
        """Find out where the weights are, without any network access.

        Args:
            architecture: a name of timm's registry, or ``hf-hub:OWNER/NAME``, with ``@REVISION`` if wanted.

        Raises:
            ConfigError: if timm knows no weights on a hub for it.
        """
        self.architecture = architecture
        source, name = parse_model_name(architecture)
        self.is_hub_model = source == "hf-hub"
        """Whether the hub also has the architecture's settings (config.json)."""
        settings = None if self.is_hub_model else timm.get_pretrained_cfg(name, allow_unregistered=True)
        repository = name if self.is_hub_model else getattr(settings, "hf_hub_id", None)
        url = getattr(settings, "url", None)
        if not repository and url:
            raise ConfigError(
                f"architecture '{architecture}': its pretrained weights are not on timm's hub; download {url} and set "
                "weights_file, or --set pretrained=false"
            )
        if not repository:
            listed = [other for other in timm.list_pretrained(f"{name.split('.')[0]}*") if other != name]
            hint = f", e.g. of '{listed[0]}'" if listed else ""
            raise ConfigError(
                f"architecture '{architecture}': there are no pretrained weights for it on timm's hub{hint}; "
                "--set pretrained=false, or set weights_file to a local file"
            )
        self.repository, _, revision = str(repository).partition("@")
        self.revision = revision or None
        named = getattr(settings, "hf_hub_filename", None)
        self.files = _OF_OPEN_CLIP if named == _OF_OPEN_CLIP[1] else (named,) if named else _WEIGHTS
        """Names of the file of weights, the best first."""
        self.license: str | None = getattr(settings, "license", None)
        """As timm states it; the model card on the hub has the terms."""

    def cached(self) -> Path | None:
        """Return the file in the local cache; None if it, or the config.json that belongs to it, is not there."""
        if self.is_hub_model and self._cached(_CONFIG) is None:
            return None
        return next((path for path in map(self._cached, self.files) if path is not None), None)

    def settings_folder(self) -> Path:
        """Return the folder of a hub model's config.json in the local cache, downloading it if it is not there.

        Raises:
            CheckpointError: if it cannot be fetched, with the cure.
        """
        return (self._cached(_CONFIG) or self._get([_CONFIG])).parent

    def fetch(self) -> Path:
        """Return the file in the local cache, downloading it if it is not there.

        Raises:
            CheckpointError: if it cannot be fetched, with the cure.
        """
        if (path := self.cached()) is not None:
            return path
        if self.is_hub_model:
            self.settings_folder()
        return self._get(self.files)

    def check(self) -> None:
        """Check that the weights are in the local cache, or that the hub would give them; nothing is downloaded.

        Raises:
            CheckpointError: with the cure.
        """
        if self.cached() is None:
            self._available(self.files)

    def _available(self, files: Sequence[str]) -> str:
        """Return the first of these files that the hub has, with one request each and no second try.

        Raises:
            CheckpointError: if it has none or cannot be reached.
        """
        error: Exception | str = f"{self.repository} has none of {', '.join(files)}"
        for name in files:
            url = hf_hub_url(self.repository, name, revision=self.revision)
            try:
                get_hf_file_metadata(url, timeout=_TIMEOUT_SECONDS)
            except EntryNotFoundError:
                continue
            except Exception as other:  # of the network or the hub
                error = other
                break
            return name
        raise CheckpointError(self._not_to_be_had(error))

    def _not_to_be_had(self, error: Exception | str) -> str:
        """Say that the weights cannot be had, and what to do."""
        text = " ".join(str(error).split())[:160]
        reason = text if isinstance(error, str) else f"{type(error).__name__}: {text}"
        command = f"ssl-pipeline weights fetch {self.architecture}"
        if self.is_hub_model:  # a file of weights alone does not tell the architecture
            return (
                f"'{self.architecture}' is not in the local cache and cannot be fetched from the hub ({reason}); run "
                f"{command} where the hub can be reached and bring its cache (HF_HOME) here, or choose one of timm's own names"
            )
        return (
            f"pretrained weights of '{self.architecture}' are not in the local cache and cannot be fetched from the hub "
            f"({reason}); --set pretrained=false, or run {command} --to FILE where the hub can be reached, and set "
            "weights_file to the file"
        )

    def _cached(self, name: str) -> Path | None:
        path = try_to_load_from_cache(self.repository, name, revision=self.revision)
        return Path(path) if isinstance(path, str) else None

    def _get(self, files: Sequence[str]) -> Path:
        name = self._available(files)  # without a network, the download itself would try again for half a minute
        try:
            return Path(hf_hub_download(self.repository, name, revision=self.revision, etag_timeout=_TIMEOUT_SECONDS))
        except Exception as error:  # of the network, the hub, or the disk
            raise CheckpointError(self._not_to_be_had(error)) from None
