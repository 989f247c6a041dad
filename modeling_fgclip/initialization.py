"""Weight initialization as transformers' own models have it."""


class InitializedAsTransformers:
    """Mixin for models whose `_init_weights` uses `transformers.initialization`.

    For code outside transformers, `from_pretrained` and the constructor pass over modules that hold no parameter of
    their own, and with them the rules CLIP has for its attention and MLP. That guards weights that custom code would
    overwrite in place; these functions mind what is loaded by themselves.
    """

    @classmethod
    def is_custom_code(cls) -> bool:
        return False
