"""Runs in the stores of experiment trackers: `mlflow_store`, `wandb_offline`; `documents` are the files beside them."""
