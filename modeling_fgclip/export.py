"""Exports the image, text and region encoder to ONNX and torch.export, with dynamic sizes, and checks that they agree.

    python -m modeling_fgclip.export user/my-fgclip --output exported
    python -m modeling_fgclip.export outputs/stage2 --output exported --format torch

Writes image_encoder.onnx, text_encoder.onnx and region_encoder.onnx (or .pt2), and the processor's files beside them.
Batch, text length, number of boxes, height and width are free (height and width in multiples of the patch size).
Images are prepared as by the processor; embeddings come out L2-normalized.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from .export_encoders import Encoder, check_inputs, encoders
from .modeling_fgclip import FGCLIPModel
from .processing_fgclip import FGCLIPProcessor

# Of normalized embeddings, which are at most 1.
TOLERANCE = 1e-4
FORMATS = ("onnx", "torch")
Runner = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def export(checkpoint: str, output: Path, formats: Sequence[str] = ("onnx",), **kwargs: str) -> dict[str, float]:
    """Exports and checks.

    Args:
        checkpoint: folder or Hub id.
        formats: "onnx" and "torch".
        kwargs: passed on to `from_pretrained` (`revision`).

    Returns:
        file name → largest difference of an embedding's component from PyTorch's, over inputs of other sizes than the
        exported example's.
    Raises:
        ValueError: without the packages that ONNX needs, and if an export does not agree with PyTorch.
    """
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise ValueError(f"Received the formats {sorted(unknown)}; exports are made as {' or '.join(FORMATS)}.")
    if "onnx" in formats:
        _require_onnx()
    model = FGCLIPModel.from_pretrained(checkpoint, dtype=torch.float32, **kwargs).eval()
    output.mkdir(parents=True, exist_ok=True)
    differences = {}
    for encoder in encoders(model):
        # Traced once for both formats.
        program = torch.export.export(
            encoder.module, (), encoder.inputs, dynamic_shapes=encoder.dynamic_shapes, strict=False
        )
        for kind in formats:
            path = output / f"{encoder.name}_encoder.{'onnx' if kind == 'onnx' else 'pt2'}"
            runner = _write_onnx(encoder, program, path) if kind == "onnx" else _write_torch(program, path)
            differences[path.name] = _difference(encoder, model, runner)
    wrong = {name: value for name, value in differences.items() if not value <= TOLERANCE}
    if wrong:
        raise ValueError(
            f"The export does not agree with PyTorch (largest difference, tolerance {TOLERANCE}): {wrong}. Do not use these "
            "files; report it with the versions of torch, onnx, onnxscript and onnxruntime."
        )
    _save_processor(checkpoint, output, **kwargs)
    return differences


def _write_onnx(encoder: Encoder, program: torch.export.ExportedProgram, path: Path) -> Runner:
    import onnxruntime

    exported = torch.onnx.export(
        program,
        (),
        kwargs=encoder.inputs,
        input_names=list(encoder.inputs),
        output_names=[encoder.output],
        dynamic_shapes=encoder.dynamic_shapes,
        dynamo=True,
        verbose=False,
    )
    exported.save(path, external_data=_is_large(encoder))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        (result,) = session.run([encoder.output], {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(result)

    return run


def _write_torch(program: torch.export.ExportedProgram, path: Path) -> Runner:
    torch.export.save(program, path)
    module = program.module()
    return lambda inputs: module(**inputs)


def _difference(encoder: Encoder, model: FGCLIPModel, runner: Runner) -> float:
    """Largest difference from the model's own methods, which the exported modules do not share in full."""
    worst = 0.0
    for inputs in check_inputs(encoder, model):
        with torch.no_grad():
            if encoder.name == "image":
                expected = model.get_image_features(**inputs)
            elif encoder.name == "text":
                expected = model.get_text_features(inputs["input_ids"], walk_short_pos=~inputs["long_text"])
            else:
                expected = model.get_region_features(**inputs)
            difference = runner(inputs) - torch.nn.functional.normalize(expected, dim=-1)
        worst = max(worst, difference.abs().nan_to_num(nan=torch.inf).max().item())
    return worst


def _is_large(encoder: Encoder) -> bool:
    """Above protobuf's 2 GB, weights have to lie beside the graph."""
    return sum(p.numel() * p.element_size() for p in encoder.module.parameters()) > 1.8e9


def _save_processor(checkpoint: str, output: Path, **kwargs: str) -> None:
    """Tokenizer and preprocessing settings, for users of other languages; no code."""
    try:
        processor = FGCLIPProcessor.from_pretrained(checkpoint, **kwargs)
    except OSError:
        print(f"{checkpoint} has no tokenizer or no preprocessing settings; only the encoders were written.")
        return
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        for file in Path(folder).glob("*.json"):
            (output / file.name).write_bytes(file.read_bytes())


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"Export to ONNX needs {error.name}: pip install 'fgclip[export]', or use --format torch."
        ) from None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m modeling_fgclip.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", help="folder or Hub id")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--format", choices=(*FORMATS, "both"), default="onnx")
    parser.add_argument("--revision", help="revision of the checkpoint on the Hub")
    args = parser.parse_args(arguments)
    formats = FORMATS if args.format == "both" else (args.format,)
    source = {"revision": args.revision} if args.revision else {}
    for name, difference in export(args.checkpoint, args.output, formats, **source).items():
        print(f"{args.output / name}: largest difference from PyTorch {difference:.1e}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
