"""Converts checkpoints: any CLIP, SigLIP 2 NaFlex or published FG-CLIP into this format, and back."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from safetensors.torch import load_file
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPTokenizer
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from . import modeling_fgclip, modeling_fgclip2
from .checked_loading import STORED_BUFFER
from .checkpoint_folder import add_integrations
from .configuration_fgclip import FGCLIPConfig
from .family import FGCLIP, FGCLIP2, Family, family_of
from .modeling_fgclip import FGCLIPModel
from .modeling_fgclip2 import FGCLIP2Model
from .open_clip_layout import CONFIG_FILE, WEIGHT_FILES, is_open_clip, read_open_clip
from .processing_fgclip import FGCLIPProcessor
from .processing_fgclip2 import FGCLIP2Processor
from .published_format import write_published
from .text_checks import check_vocabulary
from .vision_tower import vision_tower

CLIP_TOKENIZER = ("vocab.json", "merges.txt")
# What the first checkpoint of a family is made from.
_ORIGINS = {"fgclip": "CLIP", "fgclip2": "SigLIP 2 NaFlex"}


@dataclass
class ConversionReport:
    """What became of each tensor of the source, and where each tensor of the result came from."""

    source: str
    kind: str
    mapped: list[str] = field(default_factory=list)
    stretched: list[str] = field(default_factory=list)
    copied: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.kind}", f"  mapped     {len(self.mapped)} tensors"]
        if self.stretched:
            lines.append(f"  stretched  {', '.join(self.stretched)} (from the short text positions)")
        lines += [f"  copied     {name} from {origin}" for name, origin in self.copied.items()]
        if self.dropped:
            lines.append(f"  dropped    {', '.join(self.dropped)} (buffers that hold no weights)")
        return "\n".join(lines)


def load_any(
    source: str, revision: str | None = None, tokenizer: str | None = None, strip_prefix: str | None = None
) -> tuple[FGCLIPModel | FGCLIP2Model, FGCLIPProcessor | FGCLIP2Processor, ConversionReport]:
    """Loads an FG-CLIP from a folder or a repository of FG-CLIP (ours, published), transformers CLIP or open_clip.

    An FG-CLIP 2 of FG-CLIP 2 (ours, published) or SigLIP 2 NaFlex.

    Args:
        tokenizer: where to take CLIP's tokenizer from, for a source that has none.
        strip_prefix: what another tool has put before the names of the tensors.

    Returns:
        the model in float32, the processor, and what was mapped.
    Raises:
        ValueError: for what cannot be mapped, saying why.
    """
    folder = fetch(source, revision)
    if is_open_clip(folder):
        return _from_open_clip(source, folder, tokenizer)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{source} holds neither config.json nor {CONFIG_FILE}; it is no CLIP checkpoint.")
    family = family_of(folder)
    state = _stored_tensors(folder, source)
    stripped = {"state_dict": _without_prefix(state, strip_prefix, source)} if strip_prefix else {}
    place = None if strip_prefix else folder
    model, loading = family.model.from_pretrained(
        place,
        config=family.config.from_pretrained(folder),
        dtype=torch.float32,
        output_loading_info=True,
        **stripped,
    )
    report = _report(source, list(stripped.get("state_dict", state)), loading, family)
    if tokenizer is None:
        processor = family.processor.from_pretrained(folder)
    elif family is FGCLIP2:
        processor = _processor2(model, folder, tokenizer)
    else:
        processor = _processor(model, folder, tokenizer)
    return model.eval(), processor, report


def fetch(source: str, revision: str | None = None, weights: bool = True) -> Path:
    """The folder of a checkpoint; of a repository, only the files that are needed are downloaded."""
    if Path(source).is_dir():
        return Path(source)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise ValueError(f"{source!r} is neither a folder nor the id of a repository (user/name).")
    patterns = ["*.json", "merges.txt"]
    if weights:
        files = HfApi().list_repo_files(source, revision=revision)
        stored = [name for name in files if name.startswith("model") and name.endswith(".safetensors")]
        stored = stored or [name for name in files if name in WEIGHT_FILES][:1]
        if not stored and any(name.endswith((".bin", ".pt")) for name in files):
            raise ValueError(
                f"{source} has no safetensors weights, and pickled ones are not loaded. Convert them on the Hub with "
                "the safetensors/convert Space, then give the revision of its pull request (--revision refs/pr/N)."
            )
        patterns += stored
    return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))


def _from_open_clip(
    source: str, folder: Path, tokenizer: str | None
) -> tuple[FGCLIPModel, FGCLIPProcessor, ConversionReport]:
    config_dict, state, preprocessing = read_open_clip(folder)
    config = FGCLIPConfig(**config_dict)
    model, loading = FGCLIPModel.from_pretrained(
        None,
        config=config,
        state_dict={name: tensor.float() for name, tensor in state.items()},
        dtype=torch.float32,
        output_loading_info=True,
    )
    report = _report(source, list(state), loading, FGCLIP, "open_clip ViT")
    report.copied |= {"q_proj, k_proj, v_proj of each layer": "open_clip's fused attn.in_proj"}
    return model.eval(), _processor(model, folder, tokenizer, preprocessing), report


def _processor(
    model: FGCLIPModel, folder: Path, tokenizer: str | None, preprocessing: dict | None = None
) -> FGCLIPProcessor:
    config = model.config
    place = folder if tokenizer is None else fetch(tokenizer, weights=False)
    if not (place / "tokenizer.json").is_file() and not all((place / name).is_file() for name in CLIP_TOKENIZER):
        raise ValueError(
            f"{place} holds no tokenizer (tokenizer.json, or vocab.json and merges.txt). Name one that fits: "
            "--tokenizer openai/clip-vit-base-patch16, or a folder."
        )
    loaded = check_vocabulary(CLIPTokenizer.from_pretrained(place))
    if loaded.eos_token_id != config.text_config.eos_token_id:
        raise ValueError(
            f"Received a tokenizer whose end token is {loaded.eos_token_id}, for a model that pools at "
            f"{config.text_config.eos_token_id}: it belongs to another model. Pass --tokenizer."
        )
    size = config.vision_config.image_size
    settings = preprocessing or {}
    statistics = {f"image_{name}": settings[name] for name in ("mean", "std") if name in settings}
    return FGCLIPProcessor(
        CLIPImageProcessorPil(size={"height": size, "width": size}, **statistics),
        loaded,
        short_text_length=config.text_config.max_position_embeddings,
        long_text_length=config.text_config.max_long_position_embeddings,
    )


def _stored_tensors(folder: Path, source: str) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ValueError(f"{source} holds no model.safetensors; pickled weights (.bin, .pt) are not loaded.")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}  # memory-mapped


def _without_prefix(state: dict[str, torch.Tensor], prefix: str, source: str) -> dict[str, torch.Tensor]:
    if not any(name.startswith(prefix) for name in state):
        raise ValueError(f"No tensor of {source} begins with {prefix!r}; the first is {min(state)!r}.")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _processor2(model: FGCLIP2Model, folder: Path, tokenizer: str) -> FGCLIP2Processor:
    loaded = check_vocabulary(AutoTokenizer.from_pretrained(fetch(tokenizer, weights=False)))
    if loaded.pad_token_id != model.config.text_config.pad_token_id:
        raise ValueError(
            f"Received a tokenizer that pads with {loaded.pad_token_id}, for a model that reads padding as "
            f"{model.config.text_config.pad_token_id}: it belongs to another model."
        )
    return FGCLIP2Processor(Siglip2ImageProcessorPil.from_pretrained(folder), loaded)


def _report(source: str, names: list[str], loading: dict, family: Family, kind: str | None = None) -> ConversionReport:
    """Accounts for every tensor of a source that loaded."""
    missing = loading["missing_keys"]
    own = modeling_fgclip2 if family is FGCLIP2 else modeling_fgclip
    if kind is None:
        is_own = not missing or (family is FGCLIP2 and missing == set(modeling_fgclip2.TEMPERATURES))
        kind = family.name if is_own else f"transformers {_ORIGINS[family.model_type]}"
    return ConversionReport(
        source,
        kind,
        mapped=[name for name in names if not name.endswith(STORED_BUFFER)],
        stretched=[name for name in own.STRETCHED if name in missing],
        copied={name: origin for name, origin in own.COPIED.items() if name in missing},
        dropped=[name for name in names if name.endswith(STORED_BUFFER)],
    )


def convert(
    source: str,
    output: Path,
    to: str = "fgclip",
    revision: str | None = None,
    tokenizer: str | None = None,
    dtype: torch.dtype = torch.float32,
    strip_prefix: str | None = None,
    image_size: int | None = None,
) -> ConversionReport:
    """Loads `source` and writes it to `output` as "fgclip", "published" or "vision-tower"; see the command line."""
    model, processor, report = load_any(source, revision, tokenizer, strip_prefix)
    model = model.to(dtype)
    output.mkdir(parents=True, exist_ok=True)
    if to == "published":
        write_published(model, processor, output)
    elif to == "vision-tower":
        tower, images = vision_tower(model, processor, image_size)
        tower.save_pretrained(output)
        images.save_pretrained(output)
    else:
        model.save_pretrained(output)
        processor.save_pretrained(output)
        add_integrations(output)
    return report
