"""A run file that is accepted can be carried out: networks, schedulers and trainings of its Jobs can be built."""

from __future__ import annotations

import types
import typing
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.run_files import completed, dataset_of

from genaug.generation.diffusion.schedulers import build_scheduler
from genaug.generation.generators.class_conditional.generator import new_config
from genaug.schema.classifiers import BACKBONES, ClassifierSpec, Role, TrainingOptions
from genaug.schema.common import TransformSpec
from genaug.schema.evaluation import EvaluationSettings
from genaug.schema.generators import ClassConditionalSpec, DreamBoothSpec, LoraSpec, Prediction, StableDiffusionSpec
from genaug.schema.jobs import TrainItem
from genaug.schema.model import Model, Within
from genaug.schema.run import GenerationSpec, LabelingSpec, RunSpec, ScenarioSampling
from genaug.schema.runfile import parse_spec
from genaug.schema.sampling import SCHEDULERS
from genaug.schema.wire import from_proto
from genaug.shared.errors import InvalidArgument
from genaug.v1 import run_pb2
from genaug.vision.models.networks import build_network
from genaug.vision.training.config import TrainingConfig

SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "num_train_timesteps": 1000}
# Words of fields that a schema cannot list.
WORDS: dict[str, st.SearchStrategy[str]] = {
    "scheduler": st.sampled_from([*SCHEDULERS, "DDIM", ""]),
    "backbone": st.sampled_from([*BACKBONES.names(), "VGG18"]),
    "weights": st.sampled_from(["imagenet", "none"]),
    "prompts": st.sampled_from(["generic", "disease-specific", "generic@1", "nice"]),
    "compared_prompts": st.sampled_from(["", "generic", "disease-specific"]),
    "base": st.sampled_from(["", "bases/x"]),
    "autoencoder": st.sampled_from(["", "/weights"]),
    "negative_prompt": st.sampled_from(["", "blur"]),
}


def values(name: str, annotation: Any) -> st.SearchStrategy[Any]:
    """Values of one field: within its range, at its ends, just outside, and of its enum."""
    if typing.get_origin(annotation) is typing.Annotated:
        kind, *metadata = typing.get_args(annotation)
        for bound in metadata:
            if isinstance(bound, Within):
                edges = [bound.low, bound.high, bound.low - 1, bound.high + 1, (bound.low + bound.high) / 2]
                whole = st.integers(int(bound.low), int(bound.high))
                inside = whole if kind is int else st.floats(bound.low, bound.high)
                return inside | st.sampled_from([kind(edge) for edge in edges])
        annotation = kind
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        return st.one_of([values(name, option) for option in options])
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return st.sampled_from([member.name for member in annotation])
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return blocks(annotation)
    if annotation is bool:
        return st.booleans()
    return WORDS.get(name, st.just(""))


SKIPPED = {"further", "metrics", "targets", "captions", "token", "prior_caption"}


def blocks(kind: type[Model], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Blocks of a run file with a few of a model's fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {name: values(name, hints[name]) for name in kind.model_fields if name not in SKIPPED}
    some = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({**{name: fields[name] for name in names}, **fixed}))


SIZES = st.sampled_from([0, 8, 12, 16, 24, 32, 64, 128, 256, 1024])
GENERATORS = st.one_of(
    st.fixed_dictionaries({"image_size": SIZES, "class_conditional": blocks(ClassConditionalSpec)}),
    st.fixed_dictionaries(
        {"image_size": SIZES, "stable_diffusion": blocks(StableDiffusionSpec, base=st.just("bases/x"))}
    ),
    st.fixed_dictionaries({"image_size": SIZES, "transforms": blocks(TransformSpec)}),
)
RUN_FILES = st.fixed_dictionaries(
    {"name": st.just("x"), "dataset": st.just("d")},
    optional={
        "generator": GENERATORS,
        "generation": blocks(GenerationSpec),
        "labeling": blocks(LabelingSpec),
        "evaluation": blocks(EvaluationSettings),
        "transforms": blocks(TransformSpec),
    },
)
SIDES = ((8, 1), (40, 3), (300, 3))
DATASETS = st.sampled_from([dataset_of("ab", median_side=side, channels=channels) for side, channels in SIDES])


@given(RUN_FILES, DATASETS)
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_what_is_accepted_can_be_done(value: dict[str, Any], dataset) -> None:
    try:
        given_ = from_proto(RunSpec, parse_spec(value, run_pb2.RunSpec))
        spec = completed(given_.json_value(), of=dataset)
    except InvalidArgument as error:
        event(f"refused: {error.message.partition(':')[0]}")
        return
    build_scheduler(spec.generation.scheduler, SCHEDULE)
    size, scratch = spec.generator.image_size, spec.generator.class_conditional
    if scratch and not scratch.autoencoder:
        assert scratch.prediction in Prediction
        new_config(scratch, classes=["a", "b"], image_size=size, channels=dataset.channels)
    for part, rate in (
        (spec.labeling, spec.labeling.learning_rate),
        *((evaluator, evaluator.learning_rate) for evaluator in spec.evaluation.evaluators),
    ):
        item = TrainItem(
            role=Role.EVALUATOR,
            classifier=part.classifier,
            channels=dataset.channels,
            dataset_version="datasets/d/versions/v",
            classes=("a", "b"),
            sampling=ScenarioSampling.NATURAL,
            updates=part.updates,
            batch_size=part.batch_size,
            learning_rate=rate,
            training=part.training,
            seed=0,
        )
        TrainingConfig.of(item)
        # Other networks take a second each to build.
        if part.classifier.backbone == "SMALL_CNN":
            build_network(part.classifier, channels=dataset.channels, classes=2, seed=0)


@pytest.mark.parametrize("kind", [LoraSpec, DreamBoothSpec, TrainingOptions, ClassifierSpec])
def test_the_strategies_reach_every_field(kind: type[Model]) -> None:
    hints = typing.get_type_hints(kind, include_extras=True)
    for name in set(kind.model_fields) - SKIPPED:
        values(name, hints[name]).validate()
