"""Training of the open-vocabulary detector (`eval/detection`) on a frozen encoder."""
