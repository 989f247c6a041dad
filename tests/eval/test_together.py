"""One of two processes fails; both leave, and the next collective is met by both."""

import multiprocessing
import socket

import pytest
import torch.distributed as dist

from eval.together import failing_together

CONTEXT = multiprocessing.get_context("forkserver")


def _fail_on_second(rank: int, port: int, answers) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    said = []
    for work in (lambda: None, lambda: {}["gone"] if rank else None):
        try:
            with failing_together():
                work()
            said.append("fine")
        except Exception as error:
            said.append(f"{type(error).__name__} {error}")
    with failing_together(active=False):
        said.append("alone")
    answers.put((rank, said))
    dist.destroy_process_group()


def test_the_other_process_fails_with_the_first_ones_message():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = CONTEXT.Queue()
    ranks = [CONTEXT.Process(target=_fail_on_second, args=(rank, port, answers)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    found = dict(answers.get(timeout=600) for _ in ranks)
    for rank in ranks:
        rank.join(600)
    assert found == {0: ["fine", "ValueError 'gone'", "alone"], 1: ["fine", "KeyError 'gone'", "alone"]}


def test_alone_an_error_stays_what_it_is():
    with pytest.raises(OSError, match="disk"), failing_together():
        raise OSError("disk")
