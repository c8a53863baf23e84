"""Configuration: defaults < genaug.yaml < GENAUG_… environment < flags. Unknown keys are errors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from typing_extensions import override

from genaug.shared.container_limits import cpu_count
from genaug.shared.errors import InvalidArgument

# Marks a plain string that may hold a credential; a SecretStr's schema has the mark already. The chart takes such
# settings from Secrets, not from its ConfigMap.
_SECRET: dict[str, JsonValue] = {"writeOnly": True}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(_Section):
    """The object store."""

    url: str = Field("", description="file:///folder, memory:// or s3://bucket/prefix; empty for file://{home}/store.")
    endpoint: str = Field(
        "", pattern="^(https?://.+)?$", description="Address of an S3 server other than AWS, such as http://minio:9000."
    )
    region: str = Field("us-east-1", description="Region of an S3 store.")
    access_key_id: str = Field("", description="S3 access key.", json_schema_extra=_SECRET)
    secret_access_key: SecretStr = Field(SecretStr(""), description="S3 secret key.")


class DatabaseSettings(_Section):
    """The orchestrator's database."""

    url: str = Field(
        "",
        description="sqlite:///file or postgresql://…; empty for sqlite:///{home}/orchestrator.sqlite.",
        json_schema_extra=_SECRET,
    )
    executor_id: str = Field(
        "local", description="Name of this orchestrator; after a restart under the same name it resumes its runs."
    )


class AuthSettings(_Section):
    """Authentication of callers."""

    mode: Literal["auto", "none", "token"] = Field(
        "auto", description="auto: a token is required except on a unix socket or loopback. none: never. token: always."
    )
    token: SecretStr = Field(
        SecretStr(""), description="Bearer token that this process sends, and accepts without a quota."
    )
    tokens_file: str = Field(
        "", description="YAML file of further callers: name -> {token, requests_per_minute, at_once, restricted}."
    )


class TlsSettings(_Section):
    """Transport security: PEM files."""

    certificate: str = Field("", description="Certificate chain of a server, which then accepts TLS only.")
    key: str = Field("", description="Private key of the certificate.")
    authority: str = Field("", description="CA certificates that a client trusts; empty for the system's.")


class EndpointSettings(_Section):
    """Addresses of the services, for the orchestrator and the gateway; empty for their own address."""

    generation: str = Field("", description="Address of generation.")
    labeling: str = Field("", description="Address of labeling.")
    selection: str = Field("", description="Address of selection.")
    assembly: str = Field("", description="Address of assembly.")
    orchestrator: str = Field("", description="Address of the orchestrator.")


class ServerSettings(_Section):
    """The gRPC server of a service."""

    address: str = Field("127.0.0.1:50051", description="host:port, or unix:/path.")
    threads: int = Field(128, ge=2, le=512, description="Concurrent requests; further ones are refused.")
    reflection: bool = Field(True, description="Serve gRPC reflection, which grpcurl lists services by.")
    health_address: str = Field(
        "", description="host:port of a separate plaintext health server, which probes reach under any load."
    )
    metrics_address: str = Field("", description="host:port of /metrics for Prometheus; empty for none.")
    connection_age_s: int = Field(
        0, ge=0, description="Seconds until clients must reconnect, so that they find new replicas; 0 for never."
    )
    grace_s: float = Field(10.0, ge=0, description="Seconds for calls in flight to finish at shutdown.")


class EmbeddedSettings(_Section):
    """The server that a command starts over `home`."""

    idle_s: float = Field(
        300.0, ge=0, description="Seconds from the last command or run until the server ends; 0 for at once."
    )


class JobSettings(_Section):
    """Jobs and their runner."""

    runner: Literal["local", "kubernetes"] = Field(
        "local", description="local: subprocesses of the orchestrator. kubernetes: copies of the chart's CronJobs."
    )
    template: str = Field(
        "genaug", description="kubernetes: a step's CronJob is `{template}-{step}` in the orchestrator's namespace."
    )
    attempts: int = Field(3, ge=1, le=20, description="local: attempts before a Job has failed.")
    runs: int = Field(1, ge=1, le=64, description="Concurrent runs; others are queued.")
    parallelism: int = Field(
        2, ge=1, le=64, description="Processes that share a `train` Job's trainings; pods in Kubernetes."
    )
    finetune_processes: int = Field(
        1, ge=1, le=64, description="Processes of one fine-tuning, started by torchrun: one per accelerator."
    )


class InferenceSettings(_Section):
    """Batched inference in labeling and selection."""

    max_batch: int = Field(64, ge=1, le=1024, description="Maximum batch size; smaller on a CPU where that is faster.")
    max_delay_s: float = Field(0.005, ge=0, le=10, description="Maximum seconds an image waits for a fuller batch.")
    queue: int = Field(512, ge=1, le=100_000, description="Maximum images queued by all callers; more are refused.")
    window: int = Field(128, ge=1, le=10_000, description="Maximum images in flight per call.")
    decoders: int = Field(
        default_factory=lambda: min(8, cpu_count()),
        ge=1,
        le=256,
        description="Threads that decode images; by default one per CPU, at most 8.",
    )
    memory_mb: int = Field(2048, ge=1, description="MiB of loaded classifiers; the least recently used are unloaded.")
    preload: list[str] = Field(
        [], description='Classifiers ("classifiers/{digest}") loaded before the service is ready.'
    )
    precision: Literal["FLOAT32", "BFLOAT16", "INT8"] = Field(
        "FLOAT32", description="Number format of preloaded classifiers."
    )


class GenerationSettings(_Section):
    """Sampling in generation."""

    # Below `server.threads`: gRPC itself would refuse first, without a time to retry.
    queue: int = Field(
        96,
        ge=1,
        le=100_000,
        description="Maximum requests of all callers, queued or drawn; more are refused with a time to retry. "
        "Keep it below `server.threads`.",
    )
    memory_mb: int = Field(
        16_384, ge=1, description="MiB of loaded bases and generators; the least recently used are unloaded."
    )


class OpenInferenceSettings(_Section):
    """A model server that speaks the Open Inference Protocol 2 over gRPC, such as TorchServe."""

    address: str = Field("", description="host:port.")
    service_prefix: str = Field(
        "org.pytorch.serve.grpc.openinference.GRPCInferenceService",
        description="Full name of its gRPC service: TorchServe's; others use inference.GRPCInferenceService.",
    )
    model: str = Field(
        "{digest}-{precision}", description="Template of a classifier's model name; precision: float32, bfloat16, int8."
    )
    version: str = Field("", description="Model version; empty for the server's default.")
    deadline_s: float = Field(60.0, gt=0, description="Deadline of a request, in seconds.")
    patience_s: float = Field(
        120.0, ge=0, description="Seconds of retries while the server is away, full or lacks the model."
    )
    images: int = Field(8, ge=1, le=256, description="Images per request.")
    requests: int = Field(8, ge=1, le=1024, description="Concurrent requests; keep it below the server's own queue.")


class LabelingSettings(_Section):
    """The predictor of labels."""

    predictor: Literal["in-process", "open-inference"] = Field(
        "in-process", description="in-process: labeling itself. open-inference: a model server."
    )
    open_inference: OpenInferenceSettings = OpenInferenceSettings()


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix="GENAUG_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("genaug")),
        description="Folder of all data on this machine; by default the user's data folder.",
    )
    endpoint: str = Field("", description="Server of the command line; empty to start one over `home`.")
    device: str = Field(
        "auto",
        pattern="^(auto|(cpu|mps|cuda|xpu)(:[0-9]+)?)$",
        description="torch device of models: auto, cpu, cuda, cuda:1, mps, xpu.",
    )
    threads: int = Field(0, ge=0, description="CPU threads of a model process; 0 for torch's default.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe messages logged.")
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
    @override
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
    """Return the configuration file: GENAUG_CONFIG, which must exist, or genaug.yaml in the working folder, if any.

    Raises:
        InvalidArgument: GENAUG_CONFIG names no file.
    """
    named = os.environ.get("GENAUG_CONFIG")
    if named and not Path(named).is_file():
        raise InvalidArgument(f"GENAUG_CONFIG: there is no file {named}", reason="BAD_CONFIGURATION")
    return Path(named or "genaug.yaml")


def load_settings(**flags: Any) -> Settings:
    """Read the configuration; `flags` win over everything.

    Raises:
        InvalidArgument: a key is unknown or a value is out of range (all are named), or GENAUG_CONFIG names no file.
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


def masked(settings: Settings) -> Settings:
    """The settings with the database's password as asterisks; other secrets mask themselves."""
    database = settings.database
    url = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:**********@", database.url)
    return settings.model_copy(update={"database": database.model_copy(update={"url": url})})


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


# Variables that are no settings: the configuration file, and the revision that an image was built from.
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
