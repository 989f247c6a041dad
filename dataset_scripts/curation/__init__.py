"""The curation pipeline: from plain images to FineHARD (paper, section 3.2).

Five steps, each a function from batch to batch and each in a file of its own: recaption, expressions, grounding,
negatives, quality. ``python -m dataset_scripts.curation --recipe … --input … --output …`` runs them all.
"""
