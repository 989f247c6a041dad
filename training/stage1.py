"""Stage 1 of FG-CLIP: `accelerate launch training/stage1.py --config training/recipes/stage1_vit_b16.yaml`."""

from training.arguments import Stage1Arguments
from training.stages import main

if __name__ == "__main__":
    main(Stage1Arguments)
