"""python -m training.publishing: a run on the Hub with a model card. See training/hub/."""

import sys

from training.hub.publishing import main

if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
