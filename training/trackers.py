"""What `--report_to` names must exist and be installed; transformers says so late, and with a traceback."""

from collections.abc import Sequence

from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from modeling_fgclip.extras import missing_extra

EXTRAS = {"tensorboard": "log", "trackio": "trackio", "wandb": "wandb"}


def check_trackers(names: Sequence[str]) -> None:
    """Raises:
    ValueError: one of the names is that of no tracker, or of a package which is not installed.
    """
    installed = get_available_reporting_integrations()
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(
                f"--report_to {name} is no tracker; there are {', '.join(INTEGRATION_TO_CALLBACK)}, all and none."
            )
        if name not in installed:
            what = f"--report_to {name} needs a package that is not installed (--report_to none does without)"
            raise ValueError(missing_extra(what, EXTRAS[name]) if name in EXTRAS else f"{what}.")
