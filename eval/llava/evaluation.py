"""A LLaVA, or files of answers, through benchmarks, into a folder that holds answers, results and report."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from accelerate import PartialState

from dataset_scripts.formats.files import read_json
from eval.arguments import parse_options
from eval.embed import process_state
from eval.environment import environment
from eval.identity import digest_of
from eval.llava.answers import AnswersFile, joined
from eval.llava.arguments import LlavaEvalArguments
from eval.llava.benchmark import AnswerBenchmark, Question
from eval.llava.benchmarks import BENCHMARKS
from eval.llava.control import blind, of_whole_images
from eval.llava.generation import Answerer
from eval.llava.image_fit import image_fit_of
from eval.locking import writing_together
from eval.names import name_of
from eval.report import load_run, renamed, require_one_model, results_table, write_report
from eval.results import Result, save_result
from eval.tasks import make_task
from eval.tasks.base import check_images
from eval.together import failing_together


def evaluate(args: LlavaEvalArguments) -> dict[str, Result]:
    """Answer, score, print and write.

    Returns:
        task → result.
    Raises:
        ValueError: whatever is wrong with model, tasks, options, files or answers.
    """
    _check(args)
    earlier = load_run(Path(args.compare)) if args.compare else None
    options = parse_options(args.task_options, args.tasks)
    benchmarks = {
        name: make_task(name, {"data": args.data} | options.get(name, {}), BENCHMARKS) for name in args.tasks
    }
    process_state()
    with writing_together(args.output) if args.output and not args.dry_run else nullcontext():
        questions = {name: _questions(args, benchmark) for name, benchmark in benchmarks.items()}
        results = _score_files(args, benchmarks, questions) if args.answers else _ask(args, benchmarks, questions)
        with failing_together():
            _report(args, results, earlier)
    return results


def _check(args: LlavaEvalArguments) -> None:
    if not args.tasks or not (args.model or args.answers):
        raise ValueError(
            "--tasks and --model (or --answers) are needed; --list_tasks shows the tasks, --help the options."
        )
    if args.answers and len(args.answers) != len(args.tasks):
        raise ValueError(
            f"--answers takes one file a task, in the order of --tasks; got {len(args.answers)} for {', '.join(args.tasks)}."
        )
    if not args.answers and not args.output:
        raise ValueError("--output is needed: the answers are kept there.")
    if args.compare and not args.output:
        raise ValueError("--compare writes its table into the report and needs --output.")


def _questions(args: LlavaEvalArguments, benchmark: AnswerBenchmark) -> list[Question]:
    questions = benchmark.asked()
    if not args.answers:
        check_images(benchmark, [question.image for question in questions], None)
    if args.limit is not None:
        parts = [[q for q in questions if q.subset == subset] for subset in benchmark.subsets]
        questions = [question for part in parts for question in of_whole_images(part, args.limit)]
    if PartialState().is_main_process:
        images = len({question.image.identity() for question in questions})
        print(f"task {benchmark.name}: {len(questions)} questions about {images} images", flush=True)
    return questions


def _ask(
    args: LlavaEvalArguments, benchmarks: dict[str, AnswerBenchmark], questions: dict[str, list[Question]]
) -> dict[str, Result]:
    answerer = Answerer.from_pretrained(
        args.model,
        args.name,
        args.precision,
        args.revision or None,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
    )
    if answerer.state.is_main_process:
        print("\n".join(f"{name}: {value}" for name, value in answerer.settings().items()), flush=True)
    if args.dry_run:
        return {}
    folder = Path(args.output)
    require_one_model(folder / "results", answerer.fingerprint, args.tasks if args.overwrite else ())
    results: dict[str, Result] = {}
    for name, benchmark in benchmarks.items():
        start = time.perf_counter()
        answers = _answers(args, answerer, benchmark, questions[name], name)
        result = benchmark.score(questions[name], answers, answerer.image_fit)
        controls = blind(questions[name], args.control_questions)
        if controls:
            others = _answers(args, answerer, benchmark, controls, f"{name}_control")
            _add_control(result, benchmark.score(controls, others, answerer.image_fit))
            result.data["control_questions"] = len(controls)
        result.seconds = round(time.perf_counter() - start, 2)
        result.settings = answerer.settings() | result.settings | {"fingerprint": answerer.fingerprint}
        result.environment["processes"] = str(answerer.state.num_processes)
        result.environment["batch size"] = str(answerer.batch_size)
        _finish(args, benchmark, result, questions[name], answers)
        results[name] = result
    return results


def _answers(
    args: LlavaEvalArguments, answerer: Answerer, benchmark: AnswerBenchmark, questions: list[Question], label: str
) -> list[str]:
    """The answers to the questions in their order, on all processes; those that the file has already are not asked again."""
    path = Path(args.output) / "answers" / f"{label}.jsonl"
    run = answerer.run_identity(questions, benchmark.max_new_tokens)
    file, texts = None, {}
    with failing_together():
        if answerer.state.is_main_process:
            file = AnswersFile(path, run, answerer.settings() | {"task": benchmark.name}, args.overwrite)
            texts = dict(file.texts)
    texts = answerer.shared(texts)
    todo = [question for question in questions if question.id not in texts]
    for batch, said in answerer.answers(todo, benchmark.max_new_tokens, label):
        with failing_together():
            if file is not None:
                file.append(batch, said)
        texts |= {question.id: text for question, text in zip(batch, said, strict=True)}
    return [texts[question.id] for question in questions]


def _add_control(result: Result, control: Result) -> None:
    for name, score in result.scores.items():
        if name in control.scores:
            score.control = control.scores[name].value


def _score_files(
    args: LlavaEvalArguments, benchmarks: dict[str, AnswerBenchmark], questions: dict[str, list[Question]]
) -> dict[str, Result]:
    results: dict[str, Result] = {}
    name_of_model = args.name or args.model or f"answers of {name_of(args.answers[0])}"
    if args.output:
        require_one_model(Path(args.output) / "results", name_of_model, args.tasks if args.overwrite else ())
    for (name, benchmark), path in zip(benchmarks.items(), map(Path, args.answers), strict=True):
        answers = joined(path, questions[name])
        if args.dry_run:
            continue
        fit = _image_fit(args, path)
        result = benchmark.score(questions[name], answers, fit)
        about = {"model": name_of_model, "answers": name_of(path)} | ({"image_fit": fit} if fit else {})
        # The answers are all that is known of the model.
        result.settings = about | result.settings | {"fingerprint": name_of_model}
        _finish(args, benchmark, result, questions[name], answers)
        results[name] = result
    return results


def _image_fit(args: LlavaEvalArguments, path: Path) -> str | None:
    """Of the model, or of the run that wrote the answers."""
    if args.model:
        from transformers import AutoProcessor

        return image_fit_of(AutoProcessor.from_pretrained(args.model, revision=args.revision or None).image_processor)
    beside = path.with_suffix(".run.json")
    return read_json(beside).get("image_fit") if beside.is_file() else None


def _finish(
    args: LlavaEvalArguments,
    benchmark: AnswerBenchmark,
    result: Result,
    questions: list[Question],
    answers: list[str],
) -> None:
    """Completes a result and writes it, and what the benchmark's server wants."""
    result.settings["options"] = benchmark.options()
    result.data = {"questions": len(questions)} | result.data
    result.data_digests[""] = digest_of([questions], portable=True)
    finished = {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
    result.environment = environment() | result.environment | finished
    with failing_together():
        if args.output and PartialState().is_main_process:
            for path in benchmark.write_submission(questions, answers, Path(args.output)):
                print(f"wrote {path}, for the benchmark's server", flush=True)
            if result.scores:
                save_result(result, Path(args.output) / "results", benchmark.name)


def _report(args: LlavaEvalArguments, results: dict[str, Result], earlier: dict[str, Result] | None) -> None:
    scored = {name: result for name, result in results.items() if result.scores}
    if not scored or not PartialState().is_main_process:
        return
    print("\n" + results_table(scored))
    if args.output:
        model = str(next(iter(scored.values())).settings["model"])
        for path in write_report(scored | renamed(Path(args.output) / "results", model), Path(args.output), earlier):
            print(f"wrote {path}")
