"""Exports the encoders to ONNX and torch.export, with dynamic sizes, and checks that they agree with PyTorch."""

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from . import export_encoders, export_encoders_fgclip2
from .export_encoders import Encoder
from .extras import missing_extra
from .family import FGCLIP, family_of

# Of normalized embeddings, which are at most 1.
TOLERANCE = 1e-4
MIN_COSINE = 0.99
FORMATS = ("onnx", "torch")
# What transformers.js calls the files of each.
PRECISIONS = {"fp32": "", "fp16": "_fp16", "int8": "_quantized"}
# ONNX files take what other tools pass; torch.export's take the choice of long text as an input.
ENCODERS = {"onnx": ("image", "dense", "region", "text_by_length"), "torch": ("image", "dense", "region", "text")}
# By model type. Of FG-CLIP 2 everything is written in both formats.
EXPORTED = {"fgclip": export_encoders, "fgclip2": export_encoders_fgclip2}
Runner = Callable[[dict[str, torch.Tensor]], Sequence[torch.Tensor]]


@dataclass
class Exported:
    """What was written.

    Attributes:
        differences: file → largest difference of a component from PyTorch's, over inputs of other sizes than the exported
            example's.
        cosines: file of float16 or int8 → smallest cosine to PyTorch's.
    """

    differences: dict[str, float] = field(default_factory=dict)
    cosines: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{', '.join(self.differences)}: largest difference from PyTorch {max(self.differences.values()):.1e}"
        ]
        for precision, suffix in PRECISIONS.items():
            found = {name: value for name, value in self.cosines.items() if suffix and name.endswith(f"{suffix}.onnx")}
            if found:
                lines.append(f"{precision}: {', '.join(found)}: cosine to PyTorch at least {min(found.values()):.5f}")
        return "\n".join(lines)


def export(
    checkpoint: str,
    output: Path,
    formats: Sequence[str] = ("onnx",),
    precisions: Sequence[str] = ("fp32",),
    long_text: bool = False,
    **kwargs: str,
) -> Exported:
    """Exports and checks.

    Args:
        checkpoint: folder or Hub id of an FG-CLIP.
        formats: "onnx" and "torch".
        precisions: of the ONNX files: "fp32", which the others are made of, "fp16", "int8" (weights, dynamic).
        long_text: also write onnx/long_text_model.onnx, which reads texts of any length as long text; text_model.onnx
            does so where they have more than 77 tokens.
        kwargs: passed on to `from_pretrained` (`revision`).

    Raises:
        ValueError: without the packages that ONNX needs, for another model than FG-CLIP, and if an export does not agree
            with PyTorch.
    """
    for name, received, known in (("formats", formats, FORMATS), ("precisions", precisions, PRECISIONS)):
        if unknown := set(received) - set(known):
            raise ValueError(f"Received the {name} {sorted(unknown)}; exports are made as {', '.join(known)}.")
    if "onnx" in formats:
        _require_onnx()
    family = family_of(checkpoint, **kwargs)
    if family.model_type not in EXPORTED:
        raise ValueError(f"{checkpoint} is an {family.name}; only {', '.join(EXPORTED)} checkpoints are exported.")
    parts = EXPORTED[family.model_type]
    model = family.model.from_pretrained(checkpoint, dtype=torch.float32, **kwargs).eval()
    output.mkdir(parents=True, exist_ok=True)
    exported = Exported()
    made = parts.encoders(model)
    names = {kind: ENCODERS[kind] if family is FGCLIP else [encoder.name for encoder in made] for kind in FORMATS}
    wanted = {name for kind in formats for name in names[kind]} | ({"long_text"} if long_text else set())
    with _quiet():
        for encoder in made:
            if encoder.name not in wanted:
                continue
            # Traced once for both formats.
            program = torch.export.export(
                encoder.module, (), encoder.inputs, dynamic_shapes=encoder.dynamic_shapes, strict=False
            )
            if "torch" in formats and encoder.name in names["torch"]:
                path = output / f"{encoder.name}_encoder.pt2"
                exported.differences[path.name] = _compare(encoder, model, _write_torch(program, path))[0]
            if "onnx" in formats and encoder.name in (*names["onnx"], "long_text"):
                path = output / "onnx" / f"{encoder.file}.onnx"
                path.parent.mkdir(exist_ok=True)
                exported.differences[f"onnx/{path.name}"] = _compare(
                    encoder, model, _write_onnx(encoder, program, path)
                )[0]
                for precision in precisions if encoder.name != "region" else ():  # which has no weights
                    if precision != "fp32":
                        smaller = path.with_name(f"{encoder.file}{PRECISIONS[precision]}.onnx")
                        _make_smaller(path, smaller, precision)
                        exported.cosines[f"onnx/{smaller.name}"] = _compare(
                            encoder, model, _session(encoder, smaller)
                        )[1]
    wrong = {name: value for name, value in exported.differences.items() if not value <= TOLERANCE}
    wrong |= {name: value for name, value in exported.cosines.items() if not value >= MIN_COSINE}
    if wrong:
        raise ValueError(
            f"The export does not agree with PyTorch (largest difference {TOLERANCE}, smallest cosine {MIN_COSINE}): {wrong}. "
            "Do not use these files. A small cosine of float16 is an overflow: leave that precision out. Report any other "
            "with the versions of torch, onnx, onnxscript and onnxruntime."
        )
    _save_settings(checkpoint, model, output, **kwargs)
    return exported


def _write_onnx(encoder: Encoder, program: torch.export.ExportedProgram, path: Path) -> Runner:
    exported = torch.onnx.export(
        program,
        (),
        kwargs=encoder.inputs,
        input_names=list(encoder.inputs),
        output_names=list(encoder.outputs),
        dynamic_shapes=encoder.dynamic_shapes,
        dynamo=True,
        verbose=False,
    )
    exported.save(path, external_data=_is_large(encoder))
    return _session(encoder, path)


def _session(encoder: Encoder, path: Path) -> Runner:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        results = session.run(list(encoder.outputs), {name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(result) for result in results]

    return run


def _make_smaller(path: Path, smaller: Path, precision: str) -> None:
    """float16 weights and computation, or int8 weights with activations quantized as they come."""
    import onnx

    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        # Inputs and outputs stay float32, and so do the sums that overflow.
        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), smaller)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes of weights that are about to be transposed
    quantize_dynamic(
        model, smaller, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
    )


def _write_torch(program: torch.export.ExportedProgram, path: Path) -> Runner:
    torch.export.save(program, path)
    module = program.module()

    def run(inputs: dict[str, torch.Tensor]) -> Sequence[torch.Tensor]:
        result = module(**inputs)
        return result if isinstance(result, (tuple, list)) else (result,)

    return run


def _compare(encoder: Encoder, model: torch.nn.Module, runner: Runner) -> tuple[float, float]:
    """Largest difference from, and smallest cosine to, the model's own methods, which the modules do not share in full."""
    difference, cosine = 0.0, 1.0
    for inputs in EXPORTED[family_of(model).model_type].check_inputs(encoder, model):
        with torch.no_grad():
            pairs = list(zip(runner(inputs), encoder.expected(inputs), strict=True))
        for found, expected in pairs:
            largest = (found - expected).abs().nan_to_num(nan=torch.inf).max().item()
            difference = max(difference, largest / max(1.0, expected.abs().max().item()))
            smallest = torch.nn.functional.cosine_similarity(found, expected, dim=-1).nan_to_num(nan=-1).min().item()
            cosine = min(cosine, smallest)
    return difference, cosine


def _is_large(encoder: Encoder) -> bool:
    """Above protobuf's 2 GB, weights have to lie beside the graph."""
    return sum(p.numel() * p.element_size() for p in encoder.module.parameters()) > 1.8e9


def _save_settings(checkpoint: str, model: torch.nn.Module, output: Path, **kwargs: str) -> None:
    """Tokenizer, preprocessing and model settings, for users of other languages; no code."""
    family = family_of(model)
    is_clip = family is FGCLIP
    config = model.config.to_dict() | ({"model_type": "clip", "architectures": ["CLIPModel"]} if is_clip else {})
    for name in ("auto_map", "custom_pipelines"):
        config.pop(name, None)
    (output / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    try:
        processor = family.processor.from_pretrained(checkpoint, **kwargs)
    except OSError:
        print(f"{checkpoint} has no tokenizer or no preprocessing settings; only the encoders were written.")
        return
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        for file in Path(folder).glob("tokenizer*.json"):
            (output / file.name).write_bytes(file.read_bytes())
    kind = "CLIPImageProcessor" if is_clip else "Siglip2ImageProcessor"
    settings = {**processor.image_processor.to_dict(), "image_processor_type": kind}
    (output / "preprocessor_config.json").write_text(
        json.dumps(settings, indent=2, default=str) + "\n", encoding="utf-8"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the dozens of lines that a sound export logs; whatever is wrong with one is measured afterwards."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "onnx", "root", None)
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    verbosity = transformers_logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            transformers_logging.set_verbosity_error()
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            transformers_logging.set_verbosity(verbosity)


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            missing_extra(f"Export to ONNX needs {error.name} (--format torch does not)", "export")
        ) from None
