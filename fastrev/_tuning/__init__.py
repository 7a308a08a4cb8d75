"""The outer loop: what moves hyperparameters by their meta-gradients."""
