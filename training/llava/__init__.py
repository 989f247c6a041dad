"""LLaVA-1.5 with an FG-CLIP tower: build, pretrain the projector, finetune (paper, tables 5 and 9)."""
