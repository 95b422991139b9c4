"""The models that the trainer trains, each as a `Learner` of `base.py`."""
