"""Stage 2 of FG-CLIP: `accelerate launch training/stage2.py --config training/recipes/stage2_vit_b16.yaml`."""

from training.arguments import Stage2Arguments
from training.stages import main

if __name__ == "__main__":
    main(Stage2Arguments)
