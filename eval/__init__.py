"""Zero-shot evaluation of FG-CLIP and its peers."""
