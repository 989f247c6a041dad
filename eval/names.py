"""What records, cards and reports call a model or a data set: a Hub id, or a name that tells nothing of the machine."""

from pathlib import Path


def name_of(source: str | Path | None) -> str | None:
    """A Hub id as it is, of a path on this machine the last two parts (`sample/train`)."""
    if source is None:
        return None
    text = str(source)
    path = Path(text)
    local = path.exists() or path.is_absolute() or text.startswith((".", "~"))
    return "/".join(path.absolute().parts[-2:]).lstrip("/") if local else text
