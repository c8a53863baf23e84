"""Configuration: defaults < genaug.yaml < GENAUG_… environment < flags. Unknown keys are errors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from genaug.shared.errors import InvalidArgument


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(_Section):
    """The object store."""

    url: str = ""
    """file:///folder, memory:// or s3://bucket/prefix. Default: file://{home}/store."""
    endpoint: str = ""
    """Address of an S3 server other than AWS, such as http://minio:9000."""
    region: str = "us-east-1"
    """Region of an S3 store."""
    access_key_id: str = ""
    """S3 access key."""
    secret_access_key: SecretStr = SecretStr("")
    """S3 secret key."""


class DatabaseSettings(_Section):
    """The orchestrator's database."""

    url: str = ""
    """sqlite:///file or postgresql://…. Default: sqlite:///{home}/orchestrator.sqlite."""
    executor_id: str = "local"
    """Name of this orchestrator; one that restarts under the same name takes its work up again."""


class AuthSettings(_Section):
    """Who may call."""

    mode: Literal["auto", "none", "token"] = "auto"
    """auto: no token on a unix socket or loopback, obligatory elsewhere. none: never. token: always."""
    token: SecretStr = SecretStr("")
    """The bearer token that this process sends, and takes from its callers without a quota."""
    tokens_file: str = ""
    """YAML file of further callers: name -> {token, requests_per_minute, at_once}; see `genaug.shared.access`."""


class TlsSettings(_Section):
    """Files (PEM) of transport security."""

    certificate: str = ""
    """A server's certificate chain; with it, the server speaks TLS alone."""
    key: str = ""
    """Its private key."""
    authority: str = ""
    """Certificates that a caller trusts; the system's when empty."""


class EndpointSettings(_Section):
    """Where the orchestrator and the gateway find the services; empty for their own address."""

    generation: str = ""
    labeling: str = ""
    selection: str = ""
    assembly: str = ""
    orchestrator: str = ""


class ServerSettings(_Section):
    """How a service listens."""

    address: str = "127.0.0.1:50051"
    """host:port, or unix:/path."""
    threads: int = Field(128, ge=2, le=512)
    """Requests served at once; one more is refused."""
    reflection: bool = True
    """Whether grpcurl may list the services."""
    health_address: str = ""
    """host:port of a second, small server for health alone, in the clear: probes reach it however busy we are."""
    metrics_address: str = ""
    """host:port where Prometheus reads /metrics; empty for nowhere."""
    connection_age_s: int = Field(0, ge=0)
    """Seconds after which callers are asked to connect anew, so that they find new replicas; 0 for never."""
    grace_s: float = Field(10.0, ge=0)
    """Seconds that calls in flight have to finish when the process is told to end."""


class EmbeddedSettings(_Section):
    """The server that a command starts over `home`."""

    idle_s: float = Field(300.0, ge=0)
    """Seconds that it stays for the next command after the last one, or after the last run."""


class JobSettings(_Section):
    """How Jobs run."""

    runner: Literal["local", "kubernetes"] = "local"
    """local: a subprocess of the orchestrator. kubernetes: copies of the CronJobs that the chart installs."""
    template: str = "genaug"
    """kubernetes: the CronJob of a step is `{template}-{step}`, in the orchestrator's namespace."""
    attempts: int = Field(3, ge=1, le=20)
    """Attempts before a Job has failed."""
    runs: int = Field(1, ge=1, le=64)
    """Runs that are at work at once; others wait for their turn."""
    parallelism: int = Field(2, ge=1, le=64)
    """Processes that share the trainings of a `train` Job, one thread each when there are several."""
    finetune_processes: int = Field(1, ge=1, le=64)
    """Processes that share one fine-tuning, one for each accelerator of its machine; torchrun starts them."""


class InferenceSettings(_Section):
    """How labeling and selection let classifiers see images."""

    max_batch: int = Field(64, ge=1, le=1024)
    """Most images in one pass; on a CPU a pass is smaller where that is faster."""
    max_delay_s: float = Field(0.005, ge=0, le=10)
    """Seconds that an image waits for others to share its pass."""
    queue: int = Field(512, ge=1, le=100_000)
    """Images of all callers that may wait; one more is refused."""
    window: int = Field(128, ge=1, le=10_000)
    """Images of one call that are under way."""
    decoders: int = Field(default_factory=lambda: min(8, os.cpu_count() or 1), ge=1, le=256)
    """Threads that decode images."""
    memory_mb: int = Field(2048, ge=1)
    """Memory of loaded classifiers, MiB; those that were not used longest leave."""
    preload: list[str] = []
    """Classifiers ("classifiers/{digest}") that are loaded before the service is ready."""
    precision: Literal["FLOAT32", "BFLOAT16", "INT8"] = "FLOAT32"
    """What preloaded classifiers compute in."""


class GenerationSettings(_Section):
    """How generation draws."""

    queue: int = Field(96, ge=1, le=100_000)
    """Requests of all callers that may wait or be drawn; one more is refused, with the time to come back. Below
    `server.threads`, else gRPC refuses it first, and says nothing."""
    memory_mb: int = Field(16_384, ge=1)
    """Memory of loaded bases and generators, MiB; those that were not used longest leave."""


class OpenInferenceSettings(_Section):
    """A model server that speaks the Open Inference Protocol 2 over gRPC, such as TorchServe."""

    address: str = ""
    """host:port."""
    service_prefix: str = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
    """Full name of its service; TorchServe's. Others say inference.GRPCInferenceService."""
    model: str = "{digest}-{precision}"
    """Name of a classifier there; {digest} and {precision} (float32, bfloat16, int8) are put in."""
    version: str = ""
    """The model's version there; empty for its default."""
    deadline_s: float = Field(60.0, gt=0)
    """Seconds that one request may take."""
    patience_s: float = Field(120.0, ge=0)
    """Seconds that a server which is away, full or without the model is asked again."""
    images: int = Field(8, ge=1, le=256)
    """Images in one request."""
    requests: int = Field(8, ge=1, le=1024)
    """Requests under way; below the server's own queue."""


class LabelingSettings(_Section):
    """Who computes labels."""

    predictor: Literal["in-process", "open-inference"] = "in-process"
    """in-process: labeling itself. open-inference: a model server."""
    open_inference: OpenInferenceSettings = OpenInferenceSettings()


class Settings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(
        env_prefix="GENAUG_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("genaug")))
    """Folder of everything that is kept on this machine."""
    endpoint: str = ""
    """Server that the command line calls; empty to start one over `home`."""
    device: str = "auto"
    """torch device of models: auto, cpu, cuda, cuda:1, ..."""
    threads: int = Field(0, ge=0)
    """CPU threads of one model process; 0 for torch's default."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    store: StoreSettings = StoreSettings()
    database: DatabaseSettings = DatabaseSettings()
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    endpoints: EndpointSettings = EndpointSettings()
    server: ServerSettings = ServerSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    jobs: JobSettings = JobSettings()
    inference: InferenceSettings = InferenceSettings()
    generation: GenerationSettings = GenerationSettings()
    labeling: LabelingSettings = LabelingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=config_file())


def config_file() -> Path:
    """The configuration file: GENAUG_CONFIG, or genaug.yaml in the working folder."""
    return Path(os.environ.get("GENAUG_CONFIG", "genaug.yaml"))


def load_settings(**flags: Any) -> Settings:
    """Read the configuration; `flags` win over everything.

    Raises:
        InvalidArgument: a key is unknown or a value is out of range; all of them are named.
    """
    _check_environment()
    try:
        settings = Settings(**{key: value for key, value in flags.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise InvalidArgument(f"configuration: {problems}", reason="BAD_CONFIGURATION") from None
    home = settings.home.expanduser().absolute()
    store, database = settings.store, settings.database
    return settings.model_copy(
        update={
            "home": home,
            "store": store if store.url else store.model_copy(update={"url": f"file://{home / 'store'}"}),
            "database": database
            if database.url
            else database.model_copy(update={"url": f"sqlite:///{home / 'orchestrator.sqlite'}"}),
        }
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that give a subprocess the same settings, secrets included."""
    result: dict[str, str] = {}

    def walk(prefix: str, model: BaseModel) -> None:
        for field in type(model).model_fields:
            value = getattr(model, field)
            if isinstance(value, BaseModel):
                walk(f"{prefix}{field.upper()}__", value)
            else:
                result[f"{prefix}{field.upper()}"] = (
                    value.get_secret_value()
                    if isinstance(value, SecretStr)
                    else json.dumps(value)
                    if isinstance(value, list)
                    else str(value)
                )

    walk("GENAUG_", settings)
    return result


# Variables that name no setting: the configuration file itself, and what an image's build is told.
_OTHER_VARIABLES = frozenset({"GENAUG_CONFIG", "GENAUG_REVISION"})


def _check_environment() -> None:
    known = set(environment_names())
    for name in os.environ:
        if name.startswith("GENAUG_") and name not in known and name not in _OTHER_VARIABLES:
            raise InvalidArgument(
                f"environment: {name} names no setting; `genaug config show` lists them", reason="BAD_CONFIGURATION"
            )


def environment_names() -> list[str]:
    """Every GENAUG_… variable that names a setting."""
    names: list[str] = []

    def walk(prefix: str, model: type[BaseModel]) -> None:
        for field, info in model.model_fields.items():
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                walk(f"{prefix}{field.upper()}__", kind)
            else:
                names.append(f"{prefix}{field.upper()}")

    walk("GENAUG_", Settings)
    return names
