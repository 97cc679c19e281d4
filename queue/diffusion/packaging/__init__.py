"""Model packages: a model folder as a manifest and shards, small enough for a browser to fetch.

- `storage`: how a tensor lies in bytes (f32, f16, int8, int4), there and back
- `source`: the weights of a diffusers folder, read a few rows at a time; what `model_id` is
- `shards`: bytes into files of at most 16 MiB named by their SHA-256
- `manifest`: what lies where, checked as if an enemy had written it
- `pack`: from a folder to a package; `package`: reads one
- `hub`: fetches a folder from the Hugging Face Hub

docs/packages.md says what every byte means. Nothing here imports torch.
"""
