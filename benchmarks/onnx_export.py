"""PRX as ONNX graphs, from diffusers and transformers as they are: what anybody would export.

    PYTHONPATH=queue:EXPORTER python benchmarks/onnx_export.py FOLDER OUT [--side 128] [--tokens 16]

- encode.onnx: ids i64 [1, tokens] -> features [1, tokens, width], any number of tokens
- step.onnx: latent [1, C, h, w], time [1], text [N, tokens, width], mask bool [N, tokens]
  -> velocity [N, C, h, w], for the N halves of guidance; every size fixed, which helps a runtime
- decode.onnx: latent [1, C, h, w] -> picture [1, 3, H, W] in -1..1

There is no padding, except of the shorter text to the length of the longer. Weights are f32.
torch's exporter needs three packages more, in a folder EXPORTER of their own:

    pip install --no-deps --target EXPORTER onnx==1.23.2 onnxscript==0.7.2 onnx_ir==1.1.0 \\
        ml_dtypes==0.6.0 protobuf==7.36.2
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_FOLDED = 2**24  # bytes of a constant, at most
OPSET = 20  # the last before Attention and RMSNormalization became operators of their own


class Encode(nn.Module):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        from diffusers.pipelines.prx import T5GemmaEncoder

        self.encoder = T5GemmaEncoder.from_pretrained(folder / "text_encoder", dtype=torch.float32)

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.encoder(
            input_ids=ids, attention_mask=torch.ones_like(ids)
        ).last_hidden_state
        return features


class Step(nn.Module):
    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, latent: Tensor, time: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        latents = latent.expand(text.shape[0], -1, -1, -1)
        velocity: Tensor = self.transformer(latents, time, text, mask, return_dict=False)[0]
        return velocity


class Decode(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> Tensor:
        config = self.vae.config
        scaled = latent / config.scaling_factor + (config.shift_factor or 0.0)
        picture: Tensor = self.vae.decode(scaled, return_dict=False)[0]
        return picture


def export_encode(folder: Path, out: Path) -> None:
    length = torch.export.Dim("tokens", min=2, max=256)
    _export(Encode(folder), (torch.arange(3, 11)[None],), ["ids"], "features", out / "encode.onnx",
            dynamic_shapes={"ids": {1: length}})  # fmt: skip


def export_step(
    transformer: Any,
    path: Path,
    *,
    halves: int,
    tokens: int,
    sides: Sequence[int],
    weights_apart: bool = False,
) -> None:
    """sides: of the latent, (h, w); weights_apart: in a file of their own, `path` and ".data"."""
    config = transformer.config
    given = (
        torch.randn(1, config.in_channels, *sides),
        torch.tensor([0.5]),
        torch.randn(halves, tokens, config.context_in_dim),
        torch.ones(halves, tokens, dtype=torch.bool),
    )
    names = ["latent", "time", "text", "mask"]
    _export(Step(transformer), given, names, "velocity", path, weights_apart=weights_apart)


def export_decode(folder: Path, out: Path, sides: Sequence[int]) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    given = (torch.randn(1, vae.config.latent_channels, *sides),)
    _export(Decode(vae), given, ["latent"], "picture", out / "decode.onnx")


def export_folder(
    folder: Path, out: Path, *, halves: int, tokens: int, sides: Sequence[int]
) -> None:
    """All three graphs of a folder in the diffusers layout."""
    from diffusers import PRXTransformer2DModel

    out.mkdir(parents=True, exist_ok=True)
    export_encode(folder, out)
    transformer = PRXTransformer2DModel.from_pretrained(
        folder / "transformer", torch_dtype=torch.float32
    )
    export_step(transformer, out / "step.onnx", halves=halves, tokens=tokens, sides=sides)
    export_decode(folder, out, sides)


def latent_sides(folder: Path, side: int) -> tuple[int, int]:
    """Of a square picture of `side` pixels; a Flux-type VAE halves at every level but the first."""
    levels = json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"]
    return (side >> (len(levels) - 1),) * 2


def _export(
    module: nn.Module, given: tuple[Tensor, ...], names: list[str], output: str, path: Path,
    *, weights_apart: bool = False, **options: Any,
) -> None:  # fmt: skip
    with torch.no_grad():
        program = torch.onnx.export(
            module.eval(), given, dynamo=True, verbose=False, opset_version=OPSET,
            input_names=names, output_names=[output], **options,
        )  # fmt: skip
    simplify(program.model)
    program.save(path, external_data=weights_apart)


def simplify(model: Any) -> None:
    """Take out of an onnx_ir.Model what ONNX Runtime has no WebGPU kernel for.

    Cosines of positions in f64 are computed here, which the exporter does for small pictures only.
    torch guards softmax against rows of nothing but -inf, which no mask of ours has.
    """
    import onnx_ir
    from onnxscript import optimizer

    optimizer.optimize(model, input_size_limit=_FOLDED, output_size_limit=_FOLDED)
    for node in list(model.graph):
        guard = node.inputs[0].producer() if node.op_type == "Where" else None
        if guard is not None and guard.op_type == "IsNaN":
            onnx_ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[2])
            model.graph.remove(node, safe=True)
            model.graph.remove(guard, safe=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--tokens", type=int, default=16, help="of the longer text")
    options = parser.parse_args()
    sides = latent_sides(options.folder, options.side)
    export_folder(options.folder, options.out, halves=2, tokens=options.tokens, sides=sides)


if __name__ == "__main__":
    main()
