"""python -m training.plan: what a run will take. See training/planning/."""

from fgclip.command_line import run_command
from training.planning.plan import main

if __name__ == "__main__":
    run_command(main)
