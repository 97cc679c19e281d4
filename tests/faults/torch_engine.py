"""An engine for tabs of tests whose arithmetic is torch's, so that what comes out of a room can be
held against diffusers to the last digits, and a step that is lost or done twice shows.

The tab is real but for its GPU: every call goes to this process, one step at a time.
"""

import json
import threading

import numpy as np
from safetensors.numpy import load, save

from diffusion.backends import Backend, open_backend
from diffusion.model_folder import ModelFolder
from diffusion.noise import initial_noise

PATH = "/torch"

# Defines `openedEngine`, as sharing.py wants it
ENGINE = """
  const { fromBytes, toBytes } = await import('/static/js/engine/safetensors.js');
  const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const torch = async (wanted, tensors = {}) => {
    const said = JSON.stringify({ ...wanted, who: options.client });
    const body = new Blob([`${said}\\n`, toBytes(tensors)]);
    const answer = await fetch('/torch', { method: 'POST', body });
    return fromBytes(new Uint8Array(await answer.arrayBuffer()));
  };
  const previewOf = ([, height, width]) =>
    ({ width, height, rgba: new Uint8ClampedArray(4 * width * height).fill(255) });
  const textsOf = (conditioning) => Object.fromEntries(Object.entries(conditioning).map(
    ([half, { features, tokens }]) => [half,
      { shape: [tokens, tokens ? features.length / tokens : options.model.text_dim],
        data: features }]));
  class Engine {
    device = { description: 'Test GPU', software: false };
    packageId = PACKAGE;
    about = { text_dim: options.model.text_dim };
    steps = 0;
    async encode({ prompt, negativePrompt, guidance }) {
      const texts = await torch({ call: 'encode', prompt, negative: negativePrompt, guidance });
      return Object.fromEntries(Object.entries(texts).map(([half, { shape, data }]) => [half,
        { features: data, tokens: shape[0], unsure: [] }]));
    }
    async noise({ seed, width, height }) {
      const { latent: { shape, data } } = await torch({ call: 'noise', seed, width, height });
      return { latent: data, shape };
    }
    async denoise(request, { signal, onStep }) {
      let { conditioning, latent, shape, steps, guidance, start, stop } = request;
      const stride = options.wholeRanges ? stop - start : 1;
      for (let step = start; step < stop; step += stride) {
        await rest(options.stepMs);
        signal.throwIfAborted();
        const made = await torch(
          { call: 'denoise', steps, guidance, start: step, stop: step + stride },
          { ...textsOf(conditioning), latent: { shape, data: latent } });
        signal.throwIfAborted();
        latent = made.latent.data;
        this.steps += stride;
        onStep({ step: step + stride, latent, preview: previewOf(shape) });
      }
      return latent;
    }
    async decode({ latent, shape }) {
      const { picture } = await torch({ call: 'decode' }, { latent: { shape, data: latent } });
      const [height, width] = picture.shape;
      const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
      for (let i = 0; i < width * height; i += 1) {
        rgba.set(picture.data.subarray(3 * i, 3 * i + 3), 4 * i);
      }
      return { width, height, rgba };
    }
    close() {}
  }
  const openedEngine = async () => new Engine();
"""


class TorchEngine:
    """What tabs post to PATH, computed. decoded: every latent that became a picture. others: what
    computes for some clients instead."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        self.others: dict[str, Backend] = {}
        self.backend = open_backend("torch", folder)
        self.decoded: list[np.ndarray] = []
        self._one_at_a_time = threading.Lock()

    def answer(self, body: bytes) -> bytes:
        head, _, data = body.partition(b"\n")
        with self._one_at_a_time:
            return bytes(save(self._compute(json.loads(head), load(data))))

    def _compute(self, wanted: dict, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        backend = self.others.get(wanted["who"], self.backend)
        match wanted["call"]:
            case "encode":
                texts = wanted["prompt"], wanted["negative"], wanted["guidance"]
                made = backend.encode(*texts)
                return {name: np.ascontiguousarray(one) for name, one in made.items()}
            case "noise":
                shape = self.folder.latent_shape(wanted["width"], wanted["height"])
                return {"latent": initial_noise(wanted["seed"], shape)}
            case "denoise":
                latent = tensors.pop("latent")
                latent = backend.denoise(
                    tensors, latent, steps=wanted["steps"], guidance=wanted["guidance"],
                    start=wanted["start"], stop=wanted["stop"],
                )  # fmt: skip
                return {"latent": np.ascontiguousarray(latent)}
            case "decode":
                self.decoded.append(tensors["latent"])
                return {"picture": np.ascontiguousarray(backend.decode(tensors["latent"]))}
        raise ValueError(f"no such call: {wanted['call']}")
