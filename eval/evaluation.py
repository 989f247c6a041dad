"""A checkpoint through tasks, into a folder that holds results, report and embeddings."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import PartialState

from eval.adapters import load_adapter
from eval.arguments import EvalArguments, parse_options
from eval.embed import Embedder, process_state
from eval.locking import writing_together
from eval.report import left_out_text, load_run, renamed, require_one_model, results_table, write_report
from eval.results import Result, load_result, save_result
from eval.runner import run_task
from eval.tasks import Task, make_task
from eval.together import failing_together


def evaluate(args: EvalArguments) -> dict[str, Result]:
    """Run, print and write.

    Returns:
        task → result.
    Raises:
        ValueError: whatever is wrong with model, tasks, options or files.
    """
    if not args.model or not args.tasks:
        raise ValueError("--model and --tasks are needed; --list_tasks shows the tasks, --help the options.")
    earlier = None
    if args.compare:
        if not args.output:
            raise ValueError("--compare writes its table into the report and needs --output.")
        # Read before the work: a wrong folder is noticed now, and this run may write to the same one.
        earlier = load_run(Path(args.compare))
    options = parse_options(args.task_options, args.tasks)
    tasks = {name: make_task(name, {"data": args.data} | options.get(name, {})) for name in args.tasks}
    state = process_state()
    with writing_together(args.output) if args.output and not args.dry_run else nullcontext():
        return _evaluate(args, tasks, earlier, state)


def _evaluate(
    args: EvalArguments, tasks: dict[str, Task], earlier: dict[str, Result] | None, state: PartialState
) -> dict[str, Result]:
    adapter = load_adapter(
        args.model, name=args.name or None, revision=args.revision or None, custom=args.adapter or None
    )
    cache = (
        None if args.no_cache or not (args.cache or args.output) else args.cache or str(Path(args.output) / "cache")
    )
    embedder = Embedder(
        adapter, args.batch_size, args.num_workers, args.precision, args.region_features, cache, args.allow_missing
    )
    if state.is_main_process:
        print("\n".join(f"{name}: {value}" for name, value in embedder.settings().items()), flush=True)
    # All annotations and images are looked at before the first task computes for hours.
    data = {name: task.checked(embedder) for name, task in tasks.items()}
    if state.is_main_process:
        for name, task in tasks.items():
            images = set(task.images_of(data[name]))
            print(f"task {name}: {len(images)} images, {sum(not image.exists() for image in images)} missing")
    if args.dry_run:
        return {}
    if args.output:
        require_one_model(_results_folder(args), embedder.fingerprint, args.tasks if args.overwrite else ())
    results: dict[str, Result] = {}
    try:
        for name, task in tasks.items():
            identity = embedder.run_identity(task.options(), data[name])
            results[name] = _finished(args, task, embedder, identity) or _run(
                args, task, embedder, data[name], identity
            )
    except BaseException:
        _report(args, results, adapter.name, earlier, state)  # of the tasks before the one that failed
        raise
    with failing_together():
        _report(args, results, adapter.name, earlier, state)
    return results


def _report(
    args: EvalArguments,
    results: dict[str, Result],
    model: str,
    earlier: dict[str, Result] | None,
    state: PartialState,
) -> None:
    if not results or not state.is_main_process:
        return
    print("\n" + results_table(results))
    if args.output:
        everything = results | renamed(_results_folder(args), model)  # then those of earlier runs
        for path in write_report(everything, Path(args.output), earlier):
            print(f"wrote {path}")


def _results_folder(args: EvalArguments) -> Path:
    return Path(args.output) / "results"


def _finished(args: EvalArguments, task: Task, embedder: Embedder, identity: str) -> Result | None:
    """The result of an earlier run into the same folder, if model, settings, options and data are the same."""
    if not args.output or args.overwrite or not (_results_folder(args) / f"{task.name}.json").exists():
        return None
    result = load_result(_results_folder(args), task.name)
    if result.settings.get("run") != identity:
        return None
    if embedder.progress:
        print(f"task {task.name}: already in {_results_folder(args)}, not run again (--overwrite runs it)")
    return result


def _run(args: EvalArguments, task: Task, embedder: Embedder, data: Any, identity: str) -> Result:
    result = run_task(task, embedder, data)
    result.settings |= {"run": identity, "fingerprint": embedder.fingerprint}
    if embedder.state.is_main_process:
        shown = ("text", "region_features_made_by", "templates")
        made = "; ".join(
            f"{name.replace('_', ' ')}: {result.settings[name]}" for name in shown if name in result.settings
        )
        print(f"task {task.name}: {made} ({result.seconds:.0f} s)", flush=True)
        if left_out := left_out_text(result):
            print(f"task {task.name}: {left_out}", flush=True)
    with failing_together():
        if args.output and embedder.state.is_main_process:
            save_result(result, _results_folder(args), task.name)
    return result
