import io
import re
import sys

from dataset_scripts import progress
from dataset_scripts.progress import Lines, progress_bar


def test_in_a_file_it_is_lines_and_few(monkeypatch):
    file, now = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress_bar(total=1000, desc="reading", unit="record", leave=False)
    assert isinstance(bar, Lines)
    for number in range(1000):
        now[0] += 0.1
        bar.update()
        bar.set_postfix_str(f"{number} found")  # asks to be shown each time
    bar.write("a warning", file=file)
    bar.close()
    bar.close()
    text = file.getvalue()
    assert "\r" not in text
    lines = text.splitlines()
    assert len(lines) == 1 + 3 + 1 + 1  # at the start, every 30 seconds of 100, the warning, at the end
    assert lines[-2] == "a warning"
    counts = [int(re.search(r"(\d+)/1000", line)[1]) for line in lines if line.startswith("reading")]
    assert (counts[0], counts[-1]) == (0, 1000)
    assert counts == sorted(counts)


def test_iteration_and_silence(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    assert list(progress_bar(range(3), disable=True)) == [0, 1, 2]
    assert file.getvalue() == ""
    assert list(progress_bar(range(3), desc="three")) == [0, 1, 2]
    assert len(file.getvalue().splitlines()) == 2


def test_in_a_terminal_it_is_a_bar(monkeypatch):
    file = io.StringIO()
    file.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", file)
    assert not isinstance(progress_bar(total=3), Lines)
