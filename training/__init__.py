"""Training of FG-CLIP: losses, collator, trainer and the two stages."""
