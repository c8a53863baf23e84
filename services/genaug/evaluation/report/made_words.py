"""What a report says of generators, and of the images that they drew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from genaug.evaluation.report.formats import percent, percent0, thousands
from genaug.evaluation.verdict import points

_FAULTS = {
    "REASON_NOT_FINITE": "numbers that ran over",
    "REASON_CONSTANT": "one colour",
    "REASON_BLACK": "nearly black",
    "REASON_DUPLICATE": "the same as one before",
}


def match_said(match: Mapping[str, Any], *, left_out: bool) -> str:
    """How many made images are suspected to be copies, and what became of them, in two sentences."""
    made = sum(int(one.get("made", 0)) for one in match["closenesses"])
    copies = sum(int(one.get("suspected_copies", 0)) for one in match["closenesses"])
    rule = "nearer to a training image than the first percentile of distances between different subjects of the class"
    if not copies:
        return f"None of {thousands(made)} accepted images is a suspected copy: {rule}."
    became = (
        f"{'It is' if copies == 1 else 'They are'} in no training set; others were drawn in "
        f"{'its' if copies == 1 else 'their'} place, as far as the rounds and draws went."
        if left_out
        else "Look at the pairs; none was taken out."
    )
    return (
        f"{thousands(copies)} of {thousands(made)} accepted images ({percent(copies / made)} %) "
        f"{'is' if copies == 1 else 'are'} suspected to be copies: {rule}. {became}"
    )


def rejected_said(rejected: Iterable[Mapping[str, Any]]) -> str:
    """How many draws were no images, by reason, in a sentence; empty for none."""
    found: Counter[str] = Counter()
    for one in rejected:
        found[_FAULTS.get(one["reason"], "reason not said")] += one["count"]
    if not found:
        return ""
    listed = ", ".join(f"{thousands(count)} {reason}" for reason, count in found.most_common())
    total = found.total()
    return (
        f"{thousands(total)} draw{' was no image' if total == 1 else 's were no images'} and never labelled: {listed}."
    )


def stopped_said(generator: Mapping[str, Any]) -> str:
    """Why the fine-tuning stopped before its end, in two sentences; empty where it did not."""
    stopped = int(generator.get("stopped_at", 0))
    if not stopped:
        return ""
    spec = generator["spec"]
    seen = [
        float(one.get("remembered", 0))
        for one in generator.get("closenesses", [])
        if int(one.get("update", 0)) == stopped
    ]
    share = f"{percent0(max(seen))} % of the images" if seen else "too many images"
    # Where each class learns alone, the others may have gone on.
    who = "A class’s own training stopped" if spec.get("dreambooth", {}).get("per_class") else "Stopped"
    return (
        f"{who} at update {thousands(stopped)} of {thousands(int(spec.get('train_steps', stopped)))} because {share} "
        "of its sample grid were remembered: nearer to a training image than 99 of 100 training images are to one of "
        f"another subject; generator.memorised allows {percent0(float(spec.get('memorised', 0.25)))} %. It draws with "
        "what it had before."
    )


_PREDICTED = {"PREDICTION_EPSILON": "noise", "PREDICTION_IMAGE": "image"}


def learnt_said(generator: Mapping[str, Any]) -> str:
    """How a generator that learns was made, in a sentence or two."""
    spec = generator["spec"]
    shared = f"learning rate {spec.get('learning_rate', 0):g}"
    averaged = f"weights averaged with decay {spec.get('ema_decay', 0.995):g}"
    if spec.get("kind") != "KIND_STABLE_DIFFUSION":
        return (
            f"Predicts the {_PREDICTED.get(spec.get('prediction', ''), 'velocity')}; "
            f"{spec.get('base_channels', 0)} channels at its finest; {shared}; {averaged}."
        )
    lora, adapted = spec.get("lora", {}), spec.get("weights") != "WEIGHTS_ALL"
    weights = f"an adapter of rank {lora.get('rank', 8)} beside the base’s weights" if adapted else "the base’s weights"
    way = "DreamBooth" if spec.get("method") == "METHOD_DREAMBOOTH" else "captioned images"
    encoder = " and the text encoder" if spec.get("text_encoder") else ""
    kept = averaged if spec.get("ema_decay", 0.99) else "weights not averaged"
    return (
        f"Stable Diffusion from {generator.get('base') or 'a base that is not named'}, fine-tuned by {way}: what "
        f"learns is {weights}{encoder}; {shared}; {kept}. "
        f"Captions: {generator.get('prompts') or 'own'}."
    )


def captions_said(captions: Mapping[str, Any]) -> str:
    """Whether two sets of captions differ in what the labeler accepts, in two sentences."""
    first, second = (one.get("prompts") or "own" for one in captions["generators"])
    found = captions["all"]
    mine, theirs = (percent(one["share"]["value"]) for one in found["sets"])
    e = found["difference"]
    numbers = (
        f"{mine} % against {theirs} % of {thousands(found['sets'][0]['drawn'])} images each, {points(e['value'])} "
        f"points (95 % interval {points(e['lower'])} to {points(e['upper'])}, over pairs from the same noise)"
    )
    if e["lower"] > 0 or e["upper"] < 0:
        more, less = (first, second) if e["lower"] > 0 else (second, first)
        claim = f"The labeler takes more images for their class with the captions {more} than with {less}"
    else:
        claim = f"There is no evidence that the labeler takes more images for their class with {first} or with {second}"
    return (
        f"{claim}: {numbers}. Each set was learnt once: another seed of either generator may give another result, and "
        "the interval does not say how different."
    )


def captions_listed(record: Mapping[str, Any]) -> str:
    """A generator's captions, with the name of their set."""
    listed = "; ".join(f"{name}: “{caption}”" for name, caption in record.get("captions", {}).items())
    return f"{record.get('prompts') or 'own'} ({listed})"
