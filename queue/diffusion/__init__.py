"""PRX text-to-image diffusion: model folders, the stages of a picture, the backends.

Knows nothing of Django, rooms or queues. Only `backends.torch`, `model_writer`, `random_model`
and `training` import torch, so that a web process can check settings without paying for it.
"""
