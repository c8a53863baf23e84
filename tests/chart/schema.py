"""Kubernetes' own schemas, as its client brings them: unknown fields, missing ones and wrong types are found."""

from __future__ import annotations

from typing import Any

from kubernetes import client
from pydantic import ValidationError


def problems(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest; kinds that Kubernetes does not bring itself are not looked at."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        return []
    model = getattr(client, f"{version.capitalize()}{manifest['kind']}")
    where = f"{manifest['kind']}/{manifest['metadata']['name']}"
    try:
        model.model_validate(manifest)
    except ValidationError as error:
        return [f"{where}.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []
