"""python -m training.publishing: a run on the Hub with a model card. See training/hub/."""

from fgclip.command_line import run_command
from training.hub.publishing import main

if __name__ == "__main__":
    run_command(main)
