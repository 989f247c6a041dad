"""Looking at a model: similarity maps, a region against captions, failures. `python -m eval.visualize --help`."""
