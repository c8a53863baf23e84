"""`genaug generator …`, `genaug classifier …`, `genaug selection …` and `genaug images …`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from google.protobuf import json_format

from genaug.cli.command import FormatOption, client, command, group, precision_named, resource
from genaug.cli.datasets import write_file
from genaug.cli.output import DrawProgress, counts_text, make_table, show, show_list, stderr, titled
from genaug.client import DrawnImage
from genaug.schema.generators import GeneratorSpec
from genaug.schema.wire import from_proto
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.v1 import classifier_pb2, generation_service_pb2, generator_pb2, run_pb2

generator_app = group("generator", "Look at fine-tuned generators.")
classifier_app = group("classifier", "Look at trained classifiers.")
selection_app = group("selection", "Look at choices among dominant classes.")
images_app = group("images", "Draw images, and label images.")

IdArgument = Annotated[str, typer.Argument(metavar="ID")]


@command(generator_app, "list")
def list_generators(output: FormatOption = "table") -> None:
    """List generators."""
    with client() as server:
        show_list(
            server.list_generators(),
            output,
            columns=("id", "kind", "classes", "size", "created"),
            cells=lambda g: (
                g.name.removeprefix("generators/"),
                _kind(g),
                ", ".join(g.classes),
                f"{g.image_size}×{g.image_size}×{g.channels}",
                g.create_time,
            ),
        )


@command(generator_app, "get")
def get_generator(name: IdArgument, output: FormatOption = "table") -> None:
    """Show a generator."""
    with client() as server:
        generator = server.get_generator(resource(name, "generators"))
    rows = [
        ("kind", _kind(generator)),
        ("training images", counts_text(generator.training)),
        ("dataset version", generator.dataset_version),
        ("image size", f"{generator.image_size}×{generator.image_size}×{generator.channels}"),
        ("last loss", f"{generator.losses[-1]:.4f}" if generator.losses else ""),
    ]
    show(generator, output, lambda: titled(generator.name, make_table(("field", "value"), rows)))


@command(classifier_app, "list")
def list_classifiers(output: FormatOption = "table") -> None:
    """List classifiers."""
    with client() as server:
        show_list(
            server.list_classifiers(),
            output,
            columns=("id", "role", "backbone", "classes", "seed", "macro recall", "created"),
            cells=lambda c: (
                c.name.removeprefix("classifiers/"),
                _role(c),
                _backbone(c),
                ", ".join(c.classes),
                str(c.seed),
                f"{c.macro_recall:.3f}",
                c.create_time,
            ),
        )


@command(classifier_app, "get")
def get_classifier(name: IdArgument, output: FormatOption = "table") -> None:
    """Show a classifier."""
    with client() as server:
        classifier = server.get_classifier(resource(name, "classifiers"))
    rows = [
        ("role", _role(classifier)),
        ("backbone", _backbone(classifier)),
        ("classes", ", ".join(classifier.classes)),
        ("dataset version", classifier.dataset_version),
        ("updates", f"{classifier.best_update} kept of {classifier.updates}"),
        ("macro recall", f"{classifier.macro_recall:.3f}"),
        ("temperature", f"{classifier.temperature:.3f}"),
    ]
    show(classifier, output, lambda: titled(classifier.name, make_table(("field", "value"), rows)))


@command(classifier_app, "export")
def export_classifier(
    name: IdArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the model's folder into.")],
    format: Annotated[str, typer.Option(help="torchserve")] = "torchserve",
    precision: Annotated[str, typer.Option(help="FLOAT32, BFLOAT16 or INT8: its number format.")] = "FLOAT32",
) -> None:
    """Write a classifier as the files that a model server loads: for TorchServe, a model folder without an archive."""
    if format != "torchserve":
        raise InvalidArgument(f"--format {format}: there is torchserve", reason="UNKNOWN_FORMAT")
    with client() as server:
        folder = server.export_classifier(resource(name, "classifiers"), output, precision=precision_named(precision))
    stderr.print(f"{folder}: model {folder.name}")


@command(selection_app, "list")
def list_selections(output: FormatOption = "table") -> None:
    """List selections."""
    with client() as server:
        show_list(
            server.list_selections(),
            output,
            columns=("id", "method", "kept", "created"),
            cells=lambda s: (
                s.name.removeprefix("selections/"),
                run_pb2.SelectionSpec.Method.Name(s.spec.method).removeprefix("METHOD_"),
                ", ".join(f"{q.class_name}: {q.kept} of {q.available}" for q in s.qualities),
                s.create_time,
            ),
        )


@command(selection_app, "export")
def export_selection(
    name: IdArgument, output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.")]
) -> None:
    """Write the images that a selection keeps: image_id, label and place on the t-SNE map."""
    with client() as server:
        data = server.export_selection(resource(name, "selections"))
    write_file(output, data)
    stderr.print(f"{output}: {len(data)} bytes")


@command(images_app, "generate")
def generate(
    generator: Annotated[str, typer.Option(help="The generator's id.")],
    classes: Annotated[list[str], typer.Option("--class", help="One of its classes; may be given several times.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the images and their receipts.")],
    count: Annotated[int, typer.Option(help="How many of each class.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    first_index: Annotated[int, typer.Option(min=0, help="Index of the first image of each class.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Denoising steps; 0 for the default.")] = 0,
    guidance_scale: Annotated[float, typer.Option(min=0, help="Guidance, 1 for none; 0 for the default.")] = 0.0,
    scheduler: Annotated[str, typer.Option(help="By diffusers' name, such as DDIMScheduler.")] = "",
    negative_prompt: Annotated[str, typer.Option(help="Stable Diffusion: text that images are guided away from.")] = "",
    image_size: Annotated[int, typer.Option(min=0, help="Stable Diffusion: pixels; 0 for the generator's.")] = 0,
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="Stable Diffusion: start from a training image, with this much noise.")
    ] = 0.0,
    profile: Annotated[str, typer.Option(help="FULL, or TURBO: guidance in half of the steps.")] = "FULL",
    precision: Annotated[str, typer.Option(help="FLOAT32 or BFLOAT16.")] = "FLOAT32",
    format: Annotated[str, typer.Option(help="PNG or JPEG.")] = "PNG",
) -> None:
    """Draw images into a folder, each with the receipt by which it can be drawn again. Ctrl-C stops the drawing."""
    if len({_file_stem(name) for name in classes}) < len(set(classes)):
        raise InvalidArgument(
            "--class: two of them would have files of one name; ask for one at a time, in folders of their own",
            reason="BAD_CLASS",
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(f"-o {output}: cannot be made ({error.strerror})", reason="NOT_WRITABLE") from None
    drawn, rejected = 0, Counter[str]()

    def reject(draw: generation_service_pb2.RejectedDraw) -> None:
        rejected[
            generator_pb2.Rejection.Reason.Name(draw.reason).removeprefix("REASON_").lower().replace("_", " ")
        ] += 1

    try:
        with client() as server, DrawProgress() as progress:
            for image in server.generate(
                resource(generator, "generators"),
                dict.fromkeys(classes, count),
                seed=seed,
                first_index=first_index,
                steps=steps,
                guidance_scale=guidance_scale,
                scheduler=scheduler,
                negative_prompt=negative_prompt,
                image_size=image_size,
                strength=strength,
                profile=profile,
                precision=precision,
                format=format,
                on_progress=progress.update,
                on_rejected=reject,
            ):
                _write_drawn(output, image)
                drawn += 1
    except KeyboardInterrupt:
        _say_drawn(output, drawn, rejected, stopped=True)
        # The exit status by which shells know a program that Ctrl-C ended.
        raise SystemExit(130) from None
    _say_drawn(output, drawn, rejected)


def _write_drawn(folder: Path, image: DrawnImage) -> None:
    stem = f"{_file_stem(image.receipt.class_name)}-{image.receipt.seed}-{image.receipt.index:06d}"
    write_file(folder / f"{stem}.{'jpg' if image.format == 'JPEG' else 'png'}", image.data)
    receipt = json_format.MessageToJson(image.receipt, preserving_proto_field_name=True)
    write_file(folder / f"{stem}.json", receipt.encode())


def _say_drawn(folder: Path, drawn: int, rejected: Counter[str], *, stopped: bool = False) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
    more = f"; {rejected.total()} draws rejected ({reasons})" if rejected else ""
    stderr.print(f"{folder}: {'stopped; ' * stopped}{drawn} images with receipts{more}")


@command(images_app, "label")
def label(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...")],
    classifier: Annotated[str, typer.Option(help="The classifier's id.")],
    top: Annotated[int, typer.Option(min=0, help="Classes to show, the most probable first; 0 for all.")] = 1,
    precision: Annotated[str, typer.Option(help="FLOAT32, BFLOAT16 or INT8.")] = "FLOAT32",
    output: FormatOption = "table",
) -> None:
    """Label image files with a classifier."""
    # Images are read one by one later; a file that cannot be read is refused before anything is sent.
    for path in images:
        with _opened(path):
            pass
    with client() as server:
        responses = server.label_images(
            resource(classifier, "classifiers"),
            ((str(number), path.read_bytes()) for number, path in enumerate(images)),
            top_k=top,
            precision=precision_named(precision),
        )
        show_list(
            responses,
            output,
            columns=("image", "label", "sure", "status"),
            cells=lambda response: (
                str(images[int(response.id)]),
                ", ".join(f"{label.class_name} {label.probability:.3f}" for label in response.top),
                "yes" if response.sure else "no",
                response.status.message or response.status.reason,
            ),
        )


@command(images_app, "regenerate")
def regenerate(
    receipt: Annotated[Path, typer.Argument(metavar="RECEIPT", help="Its JSON, or an image that carries it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
) -> None:
    """Draw one image again from its receipt, and say whether the pixels are the same."""
    value = _read_receipt(receipt)
    with client() as server:
        response = server.regenerate(value)
    write_file(output, response.image.data)
    stderr.print(f"{output}: {'the same pixels' if response.same_pixels else 'other pixels than the receipt says'}")
    if not response.same_pixels:
        raise SystemExit(1)


def _read_receipt(path: Path) -> dict[str, Any]:
    """Return the receipt in a file: JSON, or an image that carries one."""
    with _opened(path) as file:
        data = file.read()
    if data.lstrip()[:1] == b"{":
        try:
            value: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise InvalidArgument(f"{path}: no receipt ({error})", reason="BAD_RECEIPT") from None
        return value
    try:
        # Imported here: it needs Pillow, an optional dependency of the client.
        from genaug.vision.images.provenance_metadata import receipt_of
    except ImportError:
        raise FailedPrecondition(
            f"{path}: reading the receipt of an image needs Pillow: pip install genaug[images]; or name the JSON file",
            reason="NO_PILLOW",
        ) from None
    try:
        return receipt_of(data)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}", reason=error.reason) from None


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidArgument(f"{path}: cannot be read ({error.strerror})", reason="BAD_FILE") from None


def _file_stem(class_name: str) -> str:
    """Return a class name as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in class_name)


def _kind(generator: generator_pb2.Generator) -> str:
    return from_proto(GeneratorSpec, generator.spec).kind_name.replace("_", "-")


def _role(classifier: classifier_pb2.Classifier) -> str:
    return classifier_pb2.Classifier.Role.Name(classifier.role).removeprefix("ROLE_").lower()


def _backbone(classifier: classifier_pb2.Classifier) -> str:
    return classifier.spec.backbone.lower().replace("_", "-")
