"""The plan: a PRX pipeline as data, a list of shader dispatches that any WebGPU can run.

- `expressions`, `schema`, `sizes`: what a plan is, checked as if an enemy had written it
- `builder`, `memory`, `kernels`: how the compilers write one
- `text_encoder`, `transformer`, `decoder`, `compiler`: from a model folder to a plan
- `weights`: the tensors of a folder as the plan wants them
- `twins`: every shader once more in numpy, and a runner of whole plans on them

The format and the rules of an executor are in docs/plan.md.
"""
