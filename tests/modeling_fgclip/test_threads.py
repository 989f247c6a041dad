import threading

import pytest
import torch

from modeling_fgclip.threads import in_threads


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
def test_results_come_in_order_from_as_many_threads_as_torch_has(threads):
    together = threading.Barrier(threads)

    def work(number: int, letter: str) -> tuple[str, int]:
        together.wait(60)  # for ever, with fewer
        return letter * number, threading.get_ident()

    results, names = zip(*in_threads(work, range(6), "abcdef"), strict=True)
    assert results == ("", "b", "cc", "ddd", "eeee", "fffff")
    assert len(set(names)) == threads
    assert (threading.get_ident() in names) is (threads == 1)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
def test_an_error_is_raised(threads):
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda number: 1 // number, [2, 1, 0, 3])
