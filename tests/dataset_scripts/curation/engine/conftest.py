"""Data that several files' runs begin with."""

import pytest

from tests.dataset_scripts.curation.engine.pipeline_runs import published


@pytest.fixture(scope="module")
def finehard(tmp_path_factory):
    return published(tmp_path_factory.mktemp("published"), 10)
