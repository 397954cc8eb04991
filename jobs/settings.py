"""All settings of this installation in one typed object: environment, then file, then default."""

import os
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlencode

from platformdirs import user_state_path
from pydantic import Field, FilePath, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from jobs.config_file import config_file, file_settings
from mtl_core.config import LabelPrecision
from mtl_core.errors import SettingsError
from mtl_core.storage.address import place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place
from mtl_core.suggest import did_you_mean

DAY_S = 24 * 3600.0


class Settings(BaseSettings):
    """Settings; each field's environment variable is its name in capitals behind ``MTL_``."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values given in code win over the environment, and the environment over the file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, file_settings())

    model_config = SettingsConfigDict(
        env_prefix="MTL_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    redis_ca: FilePath | None = None
    """Certificates (PEM) of the authority that vouches for the Redis of a ``rediss://`` URL;
    unset: those the system trusts."""
    redis_url: str | None = None
    """The Redis that submitters and workers share, ``redis://`` or, by TLS, ``rediss://``; by its
    Sentinels, ``redis+sentinel://host1:26379,host2:26379,host3:26379/mymaster/0`` (or
    ``rediss+sentinel://``); unset: the embedded default."""
    state_dir: Path = Field(default_factory=lambda: user_state_path("mtl-batch"))
    """Where the embedded Redis, trained models and checkpoints are kept."""
    models_dir: str | None = None
    """Where trained models are kept, a folder or an ``s3://`` address (checkpoints are there, too,
    then); ``<state_dir>/models`` when unset."""
    engine_dir: Path | None = None
    """Where models compiled for an engine are kept; ``<state_dir>/engines`` when unset."""
    data_dir: Path | None = None
    """Local training and evaluation data; unset: the hub."""
    lease_s: float = Field(15.0, gt=0, le=DAY_S)
    """A claimed shard without a beat for this long is given to another worker."""
    beat_s: float = Field(2.0, gt=0, validate_default=True)
    """Time between a worker's beats; at most half of ``lease_s``."""
    reconcile_s: float = Field(3.0, gt=0, le=DAY_S)
    """Time between rounds of the reconciler."""
    max_attempts: int = Field(3, ge=1, le=100)
    """Failed attempts after which a shard is split, and a single row set aside."""
    stall_s: float = Field(300.0, gt=0, le=365 * DAY_S)
    """A worker's child without any progress for this long is killed; its attempt has failed."""
    store_patience_s: float = Field(120.0, ge=0, le=365 * DAY_S)
    """How long a worker waits for an object store that does not answer; the job is paused then."""
    retention_s: float = Field(30 * DAY_S, gt=0, le=36500 * DAY_S)
    """How long the record of an ended job is kept in Redis."""
    roots: str | None = None
    """Folders and addresses, separated as in PATH, below which alone jobs may read and write;
    unset: anywhere."""
    threads: int | None = Field(None, ge=1, le=4096)
    """Threads of each child of a worker; unset: the cores, shared out to its children."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What labels: ``auto`` is torch on a GPU, else OpenVINO where installed, else torch."""
    precision: LabelPrecision = "auto"
    """What jobs that leave it open are labelled in."""
    cache_gb: float = Field(4.0, gt=0, le=1_000_000)
    """Size of each machine's cache of labelled texts (``mtl label --cache``), in GiB."""

    notify_secret: SecretStr | None = None
    """Secret by which notices (``--notify``) are signed, of the workers; unset: they are not."""
    notify_hosts: str | None = None
    """Hosts, separated by commas, that notices may go to by plain http, too; unset: this machine
    alone. Those of submitter and workers count both."""

    metrics_port: int | None = Field(None, ge=1, le=65535)
    """Port on which a worker serves Prometheus metrics (``/metrics``); unset: none."""
    log_format: Literal["text", "json"] = "text"
    """A worker's log: lines of text, or JSON objects with the ids of job and shard."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, value: object) -> object:
        """Refuse true and false, which no setting may be: pydantic would take them for 1 and 0."""
        if isinstance(value, bool):
            raise ValueError("must be a number or a text, not true or false")
        return value

    @field_validator("state_dir", "engine_dir", "data_dir", "redis_ca", mode="before")
    @classmethod
    def _demand_folder(cls, value: object) -> object:
        if value is None:
            return value
        if "://" in str(value):
            raise ValueError("must be a folder of this machine; models may be at an address")
        if not str(value):
            raise ValueError("must not be empty; leave the line out for the default")
        return Path(str(value)).expanduser()

    @field_validator("beat_s")
    @classmethod
    def _demand_beats_within_a_lease(cls, beat_s: float, known: ValidationInfo) -> float:
        lease_s = known.data.get("lease_s")
        if lease_s is not None and not beat_s <= lease_s / 2:
            raise ValueError(
                f"must be at most half of lease_s, which is {lease_s:g}: a worker whose beats come "
                "later loses its shards"
            )
        return beat_s

    @field_validator("redis_url")
    @classmethod
    def _demand_certificate(cls, url: str | None, known: ValidationInfo) -> str | None:
        """Add to a URL of TLS that a certificate is required: else kombu asks for none."""
        if url is None or not url.startswith(("rediss://", "rediss+sentinel://")):
            return url
        given = parse_qs(url.partition("?")[2])
        wanted = {"ssl_cert_reqs": "required", "ssl_ca_certs": known.data.get("redis_ca")}
        added = urlencode({k: v for k, v in wanted.items() if v and k not in given})
        return f"{url}{'&' if given else '?'}{added}" if added else url

    @property
    def models(self) -> Place:
        """Where models are kept."""
        place = place_of(self.models_dir or self.state_dir / "models")
        # A job's spec holds this path, which must mean the same to a worker in another folder.
        return Folder(place.path.absolute()) if isinstance(place, Folder) else place

    @property
    def model_copies(self) -> Path:
        """The folder that models of an object store are copied to."""
        return self.state_dir / "model-copies"

    @property
    def engines(self) -> Path:
        """The folder of models compiled for an engine."""
        return self.engine_dir or self.state_dir / "engines"

    @property
    def spool(self) -> Path:
        """The folder that input from stdin, stores and the hub is copied to."""
        return self.state_dir / "inputs"

    @property
    def checkpoints(self) -> Path:
        """The folder of training checkpoints, one folder a job."""
        return self.state_dir / "checkpoints"


def variable_of(name: str) -> str:
    """A setting's environment variable."""
    return f"MTL_{name.upper()}"


def source_of(name: str) -> str:
    """Where a setting's value comes from: ``environment``, the file's path, or ``default``."""
    if os.environ.get(variable_of(name)):
        return "environment"
    return str(config_file()) if name in file_settings() else "default"


@cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: one has a value that cannot be used, or the file holds one that is not
            known; the message names it.
    """
    for name in file_settings():
        if name not in Settings.model_fields:
            known = Settings.model_fields
            hint = did_you_mean(name, known, before="; ", otherwise="; see `mtl config`")
            raise SettingsError(f"{config_file()}: no setting '{name}'{hint}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        where = source_of(name)
        reason = str(first["msg"]).lower().removeprefix("value error, ")
        shown = variable_of(name) if where == "environment" else f"{where}: {name}"
        raise SettingsError(f"{shown}={first['input']!r}: {reason}") from error
