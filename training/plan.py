"""python -m training.plan: what a run will take. See training/planning/."""

from training.planning.plan import main

if __name__ == "__main__":
    main()
