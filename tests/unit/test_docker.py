"""The compose file names images that the Dockerfile builds and settings that exist. Docker itself is not needed."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from genaug.serve import GATEWAY, SERVICES
from genaug.shared.settings import environment_names

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
STAGES = set(re.findall(r"^FROM \S+ AS (\S+)-dependencies$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE))


def test_there_is_an_image_of_each_service() -> None:
    assert set(SERVICES) | {"jobs", "model-server"} == STAGES
    (built,) = re.findall(r"for service in ([\w -]+); do", (DOCKER.parent / "Makefile").read_text())
    assert set(built.split()) == STAGES


def test_compose_runs_every_service_behind_the_gateway() -> None:
    services = COMPOSE["services"]
    assert set(SERVICES) | set(GATEWAY) <= set(services)
    for name in (*SERVICES, *GATEWAY):
        assert services[name]["command"] == ["serve", name]
        image = re.fullmatch(r"genaug-(\w+):\$\{TAG:-.*\}", services[name]["image"])
        assert image is not None
        assert image[1] in STAGES
    assert [name for name, one in services.items() if "ports" in one] == ["gateway"]


def test_compose_sets_what_there_is_to_set() -> None:
    for service in COMPOSE["services"].values():
        names = {name for name in service.get("environment", {}) if name.startswith("GENAUG_")}
        assert names <= set(environment_names())


def test_foreign_images_are_pinned() -> None:
    foreign = [one["image"] for one in COMPOSE["services"].values() if not one["image"].startswith("genaug-")]
    assert foreign
    assert all("@sha256:" in image for image in foreign)
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
