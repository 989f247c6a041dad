"""What FGCLIPTrainer takes of transformers' Trainer beyond its public interface, and what for.

Tests require that these names exist with these parameters, and that no file here uses another one.
"""

# Overridden: where Trainer asks for something that we do our own way.
OVERRIDDEN = {
    "_save": ("output_dir", "state_dict"),  # after `save_model` has gathered the weights of whatever engine
    "_save_checkpoint": ("model", "trial"),  # atomic, sealed, complete: checkpointing/saving.py
    "_load_from_checkpoint": ("resume_from_checkpoint", "model"),  # LoRA: the saved weights are merged
    "_load_best_model": (),  # likewise, and the average of that checkpoint
    "_run_epoch": None,  # a finished run does no further step; parameters are handed on as they come
}
# Called.
CALLED = {
    "_prepare_inputs": ("inputs",),  # a batch to the device, with gradient caching
    "_save_optimizer_and_scheduler": ("output_dir",),  # as each engine shards them
    "_save_rng_state": ("output_dir",),
}
