"""Open-vocabulary detection: F-ViT on a frozen encoder (paper, table 3). Needs the extra `detection`."""
