"""An embedding service: texts, images, regions and similarity maps over HTTP."""
