"""Tiny models with real architectures, written to disk so that the real loading code runs."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPTokenizer,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    PreTrainedTokenizerFast,
)

COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "yellow": (235, 215, 40)}
SHAPES = ("ball", "box")
_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% elif c['type'] == 'text' %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def scene(index: int, size: int = 64) -> tuple[Image.Image, str]:
    """A picture of one thing on another's color, and what there is to say of it."""
    colors = list(COLORS)
    thing, ground = colors[index % 4], colors[(index // 4) % 4]
    ground = ground if ground != thing else colors[(index + 1) % 4]
    shape = SHAPES[(index // 16) % 2]
    image = Image.new("RGB", (size, size), COLORS[ground])
    draw = ImageDraw.Draw(image)
    left, top = 6 + index % 9, 6 + index % 7
    (draw.ellipse if shape == "ball" else draw.rectangle)((left, top, left + 40, top + 40), fill=COLORS[thing])
    return image, f"There is a {thing} {shape} on a {ground} table."


def write_scenes(folder: Path, number: int) -> Path:
    """`number` pictures as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        scene(index)[0].save(folder / f"{index:04d}.png")
    return folder


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|end|>", "<image>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|end|>",
        extra_special_tokens={"image_token": "<image>"},
    )
    fast.chat_template = _TEMPLATE
    return fast


def _llama(vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )


def write_chat_model(folder: Path) -> Path:
    """A language model of random weights with a chat template."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(["a red train", '{"negatives": ["a blue train"]}'])
    model = LlamaForCausalLM(_llama(len(tokenizer)))
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_captioner(folder: Path, steps: int = 0, texts: tuple[str, str] = ("", "")) -> Path:
    """LLaVA in miniature. With `steps` it learns to caption :func:`scene`, asked with the `texts` (system, user)."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = _tokenizer([*texts, *[scene(i)[1] for i in range(32)]])
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=_llama(len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=16,
        pad_token_id=0,
    )
    model = LlavaForConditionalGeneration(config)
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    processor = LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    processor.chat_template = _TEMPLATE
    if steps:
        _teach(model, processor, steps, texts)
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _teach(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, steps: int, texts: tuple[str, str]
) -> None:
    """A few steps on all scenes: enough to name colors and shapes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    prompt = f"<|system|>{texts[0]}<|end|><|user|><image>{texts[1]}<|end|><|assistant|>"
    model.train()
    for _ in range(steps):
        chosen = torch.randint(0, 1000, (16,), generator=generator).tolist()
        pictures, captions = zip(*[scene(i) for i in chosen], strict=True)
        batch = processor(
            images=list(pictures), text=[prompt + c + "<|end|>" for c in captions], padding=True, return_tensors="pt"
        )
        labels = batch["input_ids"].clone()
        assistant = processor.tokenizer.convert_tokens_to_ids("<|assistant|>")
        answer = (labels == assistant).cumsum(-1) - (labels == assistant).int()
        labels[(answer == 0) | (batch["attention_mask"] == 0)] = -100
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    print(f"captioner: loss {loss.item():.4f}")


def write_owlv2(folder: Path) -> Path:
    """OWLv2 in miniature with random weights; boxes are arbitrary, the path is real."""
    from transformers import Owlv2ImageProcessorPil, Owlv2Processor

    torch.manual_seed(0)
    tokenizer = _clip_tokenizer(folder)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 64, "patch_size": 16,
    }  # fmt: skip
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=32))
    with torch.no_grad():  # the initial weights of these heads saturate in so small a model
        for parameter in (*model.box_head.parameters(), *model.class_head.parameters()):
            parameter.mul_(0.05)
    model.save_pretrained(folder)
    Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    return folder


def _clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's scheme over single characters."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *[f"{c}</w>" for c in alphabet], "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def write_grounding_dino(folder: Path) -> Path:
    """Grounding DINO in miniature with random weights."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        "a",
        "on",
        *COLORS,
        *SHAPES,
        "table",
        "there",
        "is",
        "?",
    ]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2, num_queries=20,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_text_len=64,
        num_feature_levels=4,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 160})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder
