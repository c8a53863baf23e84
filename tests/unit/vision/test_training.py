from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tests.shapes import CLASSES, SMALL, shape

from genaug.schema.classifiers import ClassifierDecay, ClassifierSpec, Head, TrainingOptions
from genaug.schema.common import Precision, TransformSpec
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument
from genaug.vision.models.networks import Network, build_network
from genaug.vision.training.config import TrainingConfig
from genaug.vision.training.fit import (
    LOGISTIC_C,
    Labelled,
    ValidationScore,
    check_classes,
    fit,
    logits_of,
    macro_recall,
    train,
)


def network() -> Network:
    return build_network(SMALL, channels=1, classes=3, seed=0)


def frozen(head: Head, *, classes: int = 3) -> Network:
    spec = ClassifierSpec(backbone="EFFICIENTNET_LITE0", image_size=32, head=head).completed(32, pre_resize=0)
    return build_network(spec, channels=3, classes=classes, seed=0)


def labelled(count: int, *, first: int = 0) -> Labelled:
    pixels = np.stack([shape(kind, seed=first + i) for kind in CLASSES for i in range(count)])
    return Labelled(network().preprocess(pixels), np.repeat(np.arange(3), count))


def schedule(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"updates": 50, "batch_size": 16, "learning_rate": 0.005, **changes})  # type: ignore[arg-type]


def test_it_learns_and_says_how_far_it_is() -> None:
    seen: list[tuple[int, str]] = []
    net = network()
    looks = train(
        net,
        labelled(30),
        schedule=schedule(),
        validation=labelled(20, first=100),
        advance=lambda *far: seen.append(far),
    )
    assert [update for update, _ in seen] == list(range(1, 51))
    # 90 images by 16: an epoch is six updates.
    assert [note for _, note in seen[:5]] == [""] * 5
    assert seen[5][1].startswith("epoch 1 of 9, loss 0.")
    assert seen[-1][1].startswith("epoch 9 of 9, loss 0.")
    assert [look.update for look in looks] == list(range(5, 51, 5))
    assert max(look.macro_recall for look in looks) > 0.9
    assert not net.training


def test_the_same_seed_gives_the_same_weights() -> None:
    nets = [network(), network(), network()]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        train(net, labelled(10), schedule=schedule(updates=10, seed=seed))
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


def test_the_best_look_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that ends badly keeps the weights of its best look."""
    script = iter([(0.5, 1.0), (0.9, 0.5), (0.9, 0.4), (0.9, 0.4), *[(0.1, 9.0)] * 6])
    weights = {}

    def scripted(net: Network, validation: Labelled, *, update: int) -> ValidationScore:
        weights[update] = net.head.weight.detach().clone()
        return ValidationScore(update, *next(script))

    monkeypatch.setattr("genaug.vision.training.fit.validate", scripted)
    net = network()
    train(net, labelled(5), schedule=schedule(), validation=labelled(2, first=50))
    # Recall first, then the lower loss, then the earlier.
    assert torch.equal(net.head.weight, weights[15])
    assert not torch.equal(net.head.weight, weights[50])


def test_without_validation_the_last_weights_stay() -> None:
    net = network()
    before = net.head.weight.detach().clone()
    assert train(net, labelled(5), schedule=schedule(updates=3)) == []
    assert not torch.equal(net.head.weight, before)


def test_training_gives_back_the_threads_it_took() -> None:
    during: list[int] = []
    torch.set_num_threads(2)
    train(
        network(),
        labelled(5),
        schedule=schedule(updates=1),
        advance=lambda update, note: during.append(torch.get_num_threads()),
    )
    assert during == [1]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_macro_recall_counts_classes_not_rows() -> None:
    targets = np.array([0] * 90 + [1] * 10)
    assert macro_recall(targets, np.zeros(100, np.int64)) == 0.5
    assert macro_recall(targets, targets) == 1.0
    assert macro_recall(np.array([2, 2]), np.array([2, 0])) == 0.5


def test_logits_do_not_depend_on_the_mode_the_network_was_left_in() -> None:
    net, images = network(), labelled(3)
    expected = logits_of(net, images.inputs)
    net.train()
    np.testing.assert_array_equal(logits_of(net, images.inputs), expected)


@pytest.mark.parametrize("classes", [[], ["lies"], ["lies", "lies"]])
def test_a_label_map_has_two_classes_each_once(classes: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        check_classes([], classes=classes)


def test_each_class_needs_an_image(stores) -> None:
    from tests.shapes import real_rows

    rows = real_rows(stores("assembly"), {"lies": 1})
    with pytest.raises(FailedPrecondition, match="stands") as caught:
        check_classes(rows, classes=["lies", "stands"])
    assert caught.value.reason == "CLASS_WITHOUT_IMAGES"
    check_classes(list(itertools.chain(rows, real_rows(stores("assembly"), {"stands": 1}))), classes=["lies", "stands"])


def features(count: int, *, classes: int, seed: int = 0) -> Labelled:
    """Features of a frozen network: Gaussian blobs, one per class."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, 1280))
    inputs = centres[targets] + rng.normal(scale=4, size=(count, 1280))
    return Labelled(inputs.astype(np.float32), targets)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_logistic_head_says_what_scikit_learn_says(classes: int) -> None:
    training, unseen = features(60, classes=classes), features(40, classes=classes, seed=1)
    network = frozen(Head.LOGISTIC, classes=classes)
    told: list[tuple[int, str]] = []
    (look,) = fit(
        network, training, schedule=schedule(updates=7), validation=unseen, advance=lambda *far: told.append(far)
    )
    scaler = StandardScaler().fit(training.inputs)
    oracle = LogisticRegression(C=LOGISTIC_C, class_weight="balanced", max_iter=5000)
    oracle.fit(scaler.transform(training.inputs), training.targets)
    expected = oracle.predict_proba(scaler.transform(unseen.inputs))
    np.testing.assert_allclose(softmax(logits_of(network, unseen.inputs), axis=1), expected, atol=2e-3)
    assert look.macro_recall == macro_recall(unseen.targets, expected.argmax(1))
    assert told == [(7, "")]


def test_cancelling_stops_within_an_update() -> None:
    done: list[int] = []

    def cancel(update: int, note: str) -> None:
        done.append(update)
        if update == 3:
            raise Cancelled("told to end", reason="CANCELLED")

    with pytest.raises(Cancelled):
        train(network(), labelled(30), schedule=schedule(updates=50), advance=cancel)
    assert done == [1, 2, 3]


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            TrainingOptions(precision=Precision.BFLOAT16),
            TrainingOptions(augment=TransformSpec(rotate_degrees=5)),
            TrainingOptions(decay=ClassifierDecay.PLATEAU),
        ],
    )
    def test_it_still_learns(self, options: TrainingOptions) -> None:
        net = network()
        looks = train(
            net, labelled(30), schedule=schedule(updates=100, options=options), validation=labelled(20, first=100)
        )
        assert max(look.macro_recall for look in looks) > 0.9
        assert all(parameter.dtype == torch.float32 for parameter in net.parameters())

    def test_dropout_comes_from_the_seed(self) -> None:
        inputs = features(20, classes=3)
        nets = []
        for seed in (0, 0, 1):
            net = frozen(Head.PUBLISHED)
            torch.rand(seed + 1)
            # One round of all rows: the order is the same for each seed, but for dropout.
            train(net, inputs, schedule=schedule(updates=3, batch_size=60, seed=seed))
            nets.append(net.head[1].weight)
        assert torch.equal(nets[0], nets[1])
        assert not torch.allclose(nets[0], nets[2], atol=1e-3)

    def test_class_weights_make_up_for_rare_classes(self) -> None:
        """Where images say nothing of their class, weighted logits say every class alike, others the counts."""
        targets = np.repeat([0, 1, 2], [80, 16, 4])
        inputs = np.full((100, 1, 8, 8), 128, np.uint8)
        shares = {}
        for weighted in (False, True):
            net = network()
            options = TrainingOptions(class_weights=weighted)
            train(net, Labelled(inputs, targets), schedule=schedule(updates=300, batch_size=100, options=options))
            shares[weighted] = softmax(logits_of(net, inputs[:1]), axis=1)[0]
        np.testing.assert_allclose(shares[False], [0.8, 0.16, 0.04], atol=0.02)
        np.testing.assert_allclose(shares[True], [1 / 3] * 3, atol=0.03)

    def test_class_weights_do_without_a_class_that_has_no_rows(self) -> None:
        """A labeler's out-of-fold networks may lack one."""
        net, rows = network(), labelled(10)
        known = rows.targets < 2
        options = TrainingOptions(class_weights=True)
        train(net, Labelled(rows.inputs[known], rows.targets[known]), schedule=schedule(updates=3, options=options))
        assert all(parameter.isfinite().all() for parameter in net.parameters())

    def test_a_plateau_lowers_the_rate_by_a_quarter_after_seventy_updates(self, monkeypatch) -> None:
        rates: list[float] = []
        step = torch.optim.AdamW.step

        def noted(self, *args, **kwargs):
            rates.append(self.param_groups[0]["lr"])
            return step(self, *args, **kwargs)

        monkeypatch.setattr(torch.optim.AdamW, "step", noted)
        # The loss of images that say nothing stays where it is, but for its first fall.
        blank = Labelled(np.full((6, 1, 8, 8), 128, np.uint8), np.array([0, 1, 2, 0, 1, 2]))
        monkeypatch.setattr("genaug.vision.training.fit.validate", lambda *_, update: ValidationScore(update, 0.5, 1.0))
        plan = schedule(updates=160, learning_rate=0.004, options=TrainingOptions(decay=ClassifierDecay.PLATEAU))
        train(network(), blank, schedule=plan, validation=blank)
        # The first look, after 7 updates, is the best; ten more without a fall end after 77.
        assert rates[:77] == [0.004] * 77
        np.testing.assert_allclose(rates[77:147], 0.003)
        np.testing.assert_allclose(rates[147:], 0.00225)
