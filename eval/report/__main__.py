"""Write the report of a finished run again: python -m eval.report RUN [--compare EARLIER]."""

from __future__ import annotations

from pathlib import Path

from eval import report
from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> list[Path]:
    """Returns the paths written.

    Raises:
        ValueError: a folder without results.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("run", type=Path, help="--output of `python -m eval`")
    parser.add_argument("--compare", type=Path, help="another run: adds the significance of every difference from it")
    parser.add_argument("--output", type=Path, help="folder to write to (default: RUN)")
    args = parser.parse_args(arguments)
    paths = report.write_report(
        report.load_run(args.run), args.output or args.run, report.load_run(args.compare) if args.compare else None
    )
    print("\n".join(f"wrote {path}" for path in paths))
    return paths


if __name__ == "__main__":
    run_command(main)
