"""The one sentence about a package that only some need."""


def missing_extra(what: str, extra: str) -> str:
    """What an error says where an optional package is missing.

    Args:
        what: is to be done, and by which package: "Search needs FAISS".
        extra: of setup.cfg, which brings it.
    """
    return f"{what}: run pip install -e '.[{extra}]' in your clone of FG-CLIP."
