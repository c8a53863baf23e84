"""Sentences of a report about generators and their draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from genaug.evaluation.report.filters import percent, percent0, points_interval, thousands
from genaug.evaluation.report.report_data import CaptionComparison, RejectedDraws
from genaug.evaluation.verdict import points
from genaug.schema.generators import Generator, Method, Prediction, RejectionReason, TrainedWeights
from genaug.schema.selection import Match

_REASONS = {
    RejectionReason.NOT_FINITE: "numbers that ran over",
    RejectionReason.CONSTANT: "one colour",
    RejectionReason.BLACK: "nearly black",
    RejectionReason.DUPLICATE: "the same as one before",
}


def match_text(match: Match, *, left_out: bool) -> str:
    """Number of suspected copies, and their treatment, in two sentences."""
    made = sum(closeness.made for closeness in match.closenesses)
    copies = sum(closeness.suspected_copies for closeness in match.closenesses)
    rule = "nearer to a training image than the first percentile of distances between different subjects of the class"
    if not copies:
        return f"None of {thousands(made)} accepted images is a suspected copy: {rule}."
    treatment = (
        f"{'It is' if copies == 1 else 'They are'} in no training set; others were drawn in "
        f"{'its' if copies == 1 else 'their'} place, as far as the rounds and draws went."
        if left_out
        else "Look at the pairs; none was taken out."
    )
    return (
        f"{thousands(copies)} of {thousands(made)} accepted images ({percent(copies / made)} %) "
        f"{'is' if copies == 1 else 'are'} suspected to be copies: {rule}. {treatment}"
    )


def rejected_text(rejected: Iterable[RejectedDraws]) -> str:
    """Number of draws that gave no image, by reason, in a sentence; empty for none."""
    draws: Counter[RejectionReason] = Counter()
    for rejection in rejected:
        draws[rejection.reason] += rejection.count
    if not draws:
        return ""
    listed = ", ".join(f"{thousands(count)} {_REASONS[reason]}" for reason, count in draws.most_common())
    total = draws.total()
    return (
        f"{thousands(total)} draw{' was no image' if total == 1 else 's were no images'} and never labelled: {listed}."
    )


def train_steps(generator: Generator) -> int | None:
    """Updates of a generator's whole training; None for a kind without."""
    steps: int | None = getattr(generator.spec.settings, "train_steps", None)
    return steps


def early_stop_text(generator: Generator) -> str:
    """Reason for an early stop, in two sentences; empty without one."""
    base, stopped = generator.spec.stable_diffusion, generator.stopped_at
    if not stopped or not base:
        return ""
    shares = [closeness.memorized for closeness in generator.closenesses if closeness.update == stopped]
    share = f"{percent0(max(shares))} % of the images" if shares else "too many images"
    # Where each class has its own training, the others may have gone on.
    subject = "A class’s own training stopped" if base.dreambooth and base.dreambooth.per_class else "Stopped"
    return (
        f"{subject} at update {thousands(stopped)} of {thousands(base.train_steps)} because {share} "
        "of its sample grid were memorized: nearer to a training image than 99 of 100 training images are to one of "
        f"another subject; generator.stable_diffusion.memorized allows {percent0(base.memorized)} %. It draws with "
        "the weights from before."
    )


_PREDICTED = {Prediction.EPSILON: "noise", Prediction.IMAGE: "image"}


def training_text(generator: Generator) -> str:
    """Training of a generator, in a sentence or two."""
    if own := generator.spec.class_conditional:
        predicted = _PREDICTED.get(own.prediction, "velocity") if own.prediction else "velocity"
        return (
            f"Predicts the {predicted}; {own.base_channels} channels at its finest; learning rate "
            f"{own.learning_rate:g}; weights averaged with decay {own.ema_decay:g}."
        )
    base = generator.spec.stable_diffusion
    if base is None:
        return f"Generator kind {generator.spec.kind_name}."
    rank = base.lora.rank if base.lora else 0
    adapted = base.weights != TrainedWeights.ALL
    weights = f"an adapter of rank {rank} beside the base’s weights" if adapted else "the base’s weights"
    method = "DreamBooth" if base.method == Method.DREAMBOOTH else "captioned images"
    encoder = " and the text encoder" if base.text_encoder else ""
    averaged = f"weights averaged with decay {base.ema_decay:g}" if base.ema_decay else "weights not averaged"
    return (
        f"Stable Diffusion from {generator.base or 'an unnamed base'}, fine-tuned by {method}: trained are "
        f"{weights}{encoder}; learning rate {base.learning_rate:g}; {averaged}. "
        f"Captions: {generator.prompts or 'own'}."
    )


def caption_text(captions: CaptionComparison) -> str:
    """Difference of two sets of captions in the share accepted by the labeler, in two sentences."""
    first, second = (generator.prompts or "own" for generator in captions.generators)
    mine, theirs = captions.all.sets
    difference = captions.all.difference
    numbers = (
        f"{percent(mine.share.value)} % against {percent(theirs.share.value)} % of {thousands(mine.drawn)} images "
        f"each, {points(difference.value)} points (95 % interval {points_interval(difference)}, over pairs from the "
        "same noise)"
    )
    if difference.lower > 0 or difference.upper < 0:
        more, less = (first, second) if difference.lower > 0 else (second, first)
        claim = f"The labeler takes more images for their class with the captions {more} than with {less}"
    else:
        claim = f"There is no evidence that the labeler takes more images for their class with {first} or with {second}"
    return (
        f"{claim}: {numbers}. Each set was learnt once: another seed of either generator may give another result, and "
        "the interval does not say how different."
    )


def listed_captions(generator: Generator) -> str:
    """Captions of a generator, with the name of their set."""
    listed = "; ".join(f"{name}: “{caption}”" for name, caption in generator.captions.items())
    return f"{generator.prompts or 'own'} ({listed})"
