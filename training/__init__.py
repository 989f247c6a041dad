"""Training of FG-CLIP: losses, collator, trainer and the two stages."""

from pathlib import Path

RECIPES = Path(__file__).with_name("recipes")
