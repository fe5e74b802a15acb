"""What all tests share."""

from hypothesis import settings

settings.register_profile("cotrain", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("cotrain")
