"""`genaug store …`: the identities of the object store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from genaug.cli.command import command, group, settings
from genaug.cli.output import stderr
from genaug.cli.store_policy import policy_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument, Unavailable
from genaug.shared.settings import StoreSettings
from genaug.shared.store import ROLES

app = group("store", "Look after the object store.")


@command(app, "policy")
def policy(role: Annotated[str, typer.Argument(metavar="ROLE", help=", ".join(ROLES))]) -> None:
    """Print the S3 policy of an identity, for the store that is configured."""
    if role not in ROLES:
        raise InvalidArgument(f"{role!r} is no identity; there are {', '.join(ROLES)}", reason="BAD_ROLE")
    bucket, prefix = _location(settings().store)
    typer.echo(json.dumps(policy_of(role, bucket=bucket, prefix=prefix), indent=2))


@command(app, "provision")
def provision(
    credentials: Annotated[
        Path,
        typer.Option(help="Folder of files {role}-access-key-id and {role}-secret-access-key, of each identity."),
    ],
) -> None:
    """Make the bucket of a MinIO, and a user and a policy for each identity. Repeating it brings all up to date.

    The configured credentials must be an administrator's.
    """
    # Imported here: no other command needs them.
    from minio import Minio, MinioAdmin
    from minio.credentials.providers import StaticProvider
    from minio.error import MinioAdminException, MinioException
    from urllib3.exceptions import HTTPError

    store = settings().store
    bucket, prefix = _location(store)
    secret = store.secret_access_key.get_secret_value()
    address = urlsplit(store.endpoint)
    if not address.netloc:
        raise InvalidArgument("store.endpoint: say where MinIO is, such as http://minio:9000", reason="BAD_STORE_URL")
    secure = address.scheme == "https"
    client = Minio(
        endpoint=address.netloc,
        access_key=store.access_key_id,
        secret_key=secret,
        secure=secure,
        region=store.region,
    )
    admin = MinioAdmin(
        endpoint=address.netloc,
        credentials=StaticProvider(store.access_key_id, secret),
        secure=secure,
        region=store.region,
    )
    try:
        if not client.bucket_exists(bucket_name=bucket):
            client.make_bucket(bucket_name=bucket)
        for role in ROLES:
            user, password = (_read(credentials / f"{role}-{part}") for part in ("access-key-id", "secret-access-key"))
            admin.policy_add(policy_name=f"genaug-{role}", policy=policy_of(role, bucket=bucket, prefix=prefix))
            admin.user_add(access_key=user, secret_key=password)
            _attach(admin, f"genaug-{role}", user)
            stderr.print(f"{role}: may read {', '.join(ROLES[role].reads) or 'what it writes'}")
    except (MinioException, MinioAdminException, HTTPError, OSError) as error:
        raise Unavailable(
            f"store.endpoint: {store.endpoint} cannot be reached or refused ({type(error).__name__}); are the "
            "configured credentials an administrator's?",
            reason="STORE_UNAVAILABLE",
        ) from None
    stderr.print(f"s3://{bucket}: ready, {len(ROLES)} identities")


def _attach(admin: object, policy_name: str, user: str) -> None:
    from minio import MinioAdmin
    from minio.error import MinioAdminException

    assert isinstance(admin, MinioAdmin)  # noqa: S101  # for the type checker
    try:
        admin.attach_policy(policies=[policy_name], user=user)
    except MinioAdminException as error:
        # Attached by an earlier call.
        if "PolicyChangeAlreadyApplied" not in str(error):
            raise


def _location(store: StoreSettings) -> tuple[str, str]:
    """Return bucket and prefix of an S3 store."""
    parts = urlsplit(store.url)
    if parts.scheme != "s3":
        raise FailedPrecondition(
            f"store.url: {store.url} has no identities of its own; those of s3:// have", reason="NOT_S3"
        )
    return parts.netloc, parts.path.strip("/")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"--credentials: {path} cannot be read ({error})", reason="BAD_FILE") from None
