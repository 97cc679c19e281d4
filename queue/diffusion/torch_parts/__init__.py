"""The networks of a PRX pipeline as plain torch functions over the weights of a model folder.

One file per network. They are written anew, so that a worker imports torch but neither diffusers
nor transformers (4 s and 140 MB less), and so that what is constant over the steps is computed
once. The tests compare every one of them with the library's.
"""
