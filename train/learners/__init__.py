"""The models that the trainer trains, each behind the protocol of `base.py`."""
