"""The wgpu backend in its child process: what it computes, and what happens when it dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffusion.backends import choice, open_backend
from diffusion.backends.child_backend import ChildBackend
from diffusion.backends.child_process import environment
from diffusion.backends.errors import BackendDiedError, NoAdapterError
from diffusion.backends.frames import Message
from diffusion.model_folder import ModelFolder, ModelFolderError, read_model_folder
from diffusion.noise import initial_noise
from diffusion.plan.areas import BAND
from diffusion.plan.compiler import compile_folder
from diffusion.plan.expressions import PlanError
from diffusion.plan.sizes import memory, symbol_values
from diffusion.random_model import write_random_model
from tests.diffusion.backends.conftest import WGSL
from tests.diffusion.plan.single import distance
from tests.genqueue.processes import alive, until

PROMPT = "a red apple left of a small dog"
STEPS = 6
F32 = 1e-4
NOISE = initial_noise(7, (16, 8, 10))

Array = np.ndarray[Any, Any]


def denoised(backend: Any, on_step: Any = None, start: int = 0, latent: Array = NOISE) -> Array:
    texts = backend.encode(f"  {PROMPT.upper()} &amp; more", "blurry", 4.0)
    result: Array = backend.denoise(
        texts, latent, steps=STEPS, guidance=4.0, start=start, stop=STEPS, on_step=on_step
    )
    return result


@pytest.fixture(scope="module")
def undisturbed(ours: ChildBackend) -> Array:
    return denoised(ours)


@pytest.fixture(scope="module")
def features(ours: ChildBackend) -> Array:
    return ours.encode(PROMPT, "", 1.0)["prompt"]


class TestAPicture:
    def test_is_that_of_torch(self, ours: ChildBackend, folder: ModelFolder) -> None:
        theirs = open_backend("torch", folder)
        seen: list[tuple[int, Array]] = []
        latent = denoised(ours, lambda *step: seen.append(step))
        assert distance(latent, denoised(theirs)) < F32
        assert [step for step, _ in seen] == list(range(1, STEPS + 1))
        assert np.array_equal(seen[-1][1], latent)
        off = np.abs(ours.decode(latent).astype(int) - theirs.decode(latent).astype(int))
        assert off.max() <= 1

    def test_goes_on_from_any_step_with_the_same_bits(
        self, ours: ChildBackend, undisturbed: Array
    ) -> None:
        latents = {}
        denoised(ours, latents.__setitem__)
        assert np.array_equal(denoised(ours, start=2, latent=latents[2]), undisturbed)

    def test_of_weights_in_f16_is_near(self, folder: ModelFolder, undisturbed: Array) -> None:
        with closing(open_backend("wgpu", folder, "f16", shaders=WGSL)) as half:
            assert half.device.endswith(", f16")
            assert half.precision == "f16"
            assert distance(denoised(half), undisturbed) < 2e-2

    def test_that_is_not_wanted_any_more_stops_within_a_step(
        self, ours: ChildBackend, undisturbed: Array
    ) -> None:
        seen: list[int] = []

        def on_step(step: int, latent: Array) -> None:
            seen.append(step)
            if step == 2:
                raise InterruptedError("cancelled")

        pid = ours.pid
        with pytest.raises(InterruptedError, match="cancelled"):
            denoised(ours, on_step)
        assert seen == [1, 2]
        assert np.array_equal(denoised(ours), undisturbed)
        assert ours.pid == pid, "nothing had to be started again"

    def test_out_of_range_is_refused_as_it_would_be_here(self, ours: ChildBackend) -> None:
        pid = ours.pid
        with pytest.raises(PlanError, match="H is 4096"):
            ours.decode(np.zeros((16, 4096, 2), np.float32))
        with pytest.raises(ValueError, match="cannot do steps 5 to 9 of 6"):
            ours.denoise({}, NOISE, steps=6, guidance=1.0, start=5, stop=9)
        assert ours.pid == pid


class TestAProcess:
    def test_that_is_killed_in_the_middle_is_replaced_by_the_next_call(
        self, ours: ChildBackend, undisturbed: Array
    ) -> None:
        killed = ours.pid
        assert killed is not None

        def on_step(step: int, latent: Array) -> None:
            if step == 2:
                os.kill(killed, signal.SIGKILL)

        with pytest.raises(BackendDiedError, match="was ended by SIGKILL"):
            denoised(ours, on_step)
        assert np.array_equal(denoised(ours), undisturbed)
        assert ours.pid != killed

    def test_that_is_killed_while_idle_costs_nothing(
        self, ours: ChildBackend, features: Array
    ) -> None:
        child = ours._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: not child.alive, 5, "its end")
        assert np.array_equal(ours.encode(PROMPT, "", 1.0)["prompt"], features)

    def test_that_fails_says_why_and_comes_back_later_and_later(
        self, ours: ChildBackend, features: Array
    ) -> None:
        right, ours._opening = ours._opening, Message("juggle")
        with pytest.raises(BackendDiedError, match="nothing is called juggle") as death:
            ours._ask(Message("juggle"))
        assert "Traceback" in death.value.__notes__[0]
        for least in (0.0, 0.5):
            began = time.monotonic()
            with pytest.raises(BackendDiedError):
                ours.encode(PROMPT, "", 1.0)
            assert time.monotonic() - began >= least
        ours._opening = right
        assert np.array_equal(ours.encode(PROMPT, "", 1.0)["prompt"], features)

    def test_ends_with_a_parent_that_is_killed_while_it_computes(self, kl_folder: Path) -> None:
        program = f"""if True:
            from pathlib import Path
            import numpy as np
            from diffusion.backends import open_backend
            from diffusion.model_folder import read_model_folder
            folder = read_model_folder(Path({str(kl_folder)!r}))
            backend = open_backend("wgpu", folder, shaders=Path({str(WGSL)!r}))
            texts = backend.encode("a dog", "", 4.0)
            def on_step(step, latent):
                if step == 1:
                    print(backend.pid, flush=True)
            backend.denoise(texts, np.zeros((16, 32, 32), np.float32), steps=100, guidance=4.0,
                            start=0, stop=100, on_step=on_step)
        """
        parent = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment()
        )
        with parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            assert alive(child)
            parent.kill()
        until(lambda: not alive(child), 5, "the child's end")

    def test_ends_when_its_backend_is_closed_or_forgotten(self, folder: ModelFolder) -> None:
        backend: Any = open_backend("wgpu", folder, shaders=WGSL)
        pid = backend.pid
        del backend
        until(lambda: not alive(pid), 5, "the child's end")


class TestMemory:
    def test_that_does_not_hold_all_stages_holds_one_after_another(
        self, folder: ModelFolder, undisturbed: Array
    ) -> None:
        plan = compile_folder(folder, "f32").plan
        sizes = symbol_values(plan, {"B": 2, "T": 40, "S": STEPS, "H": 8, "W": 10})
        each = {name: memory(plan, name, sizes) for name in plan.stages if name != BAND}
        # Tensors that several of these stages share are counted in each of them
        denoising = sum(each[n].total for n in ("prepare", "modulation", "denoise", "advance"))
        most = max(denoising, each["encode"].total, each["decode"].total)
        assert sum(stage.weights for stage in each.values()) > most, "not all weights fit"
        with closing(open_backend("wgpu", folder, "f32", shaders=WGSL, memory_limit=most)) as small:
            for _ in range(2):
                assert np.array_equal(denoised(small), undisturbed)
                assert small.decode(undisturbed).shape == (64, 80, 3)

    def test_that_does_not_hold_one_stage_is_said(self, folder: ModelFolder) -> None:
        with (
            closing(
                open_backend("wgpu", folder, "f32", shaders=WGSL, memory_limit=100_000)
            ) as tiny,
            pytest.raises(MemoryError, match="exceed the limit of 100000"),
        ):
            tiny.encode(PROMPT, "", 1.0)


class TestOpening:
    def test_without_vulkan_is_refused_by_name(
        self, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent")
        with pytest.raises(NoAdapterError, match="neither Vulkan nor Metal nor DX12"):
            open_backend("wgpu", folder, shaders=WGSL)

    def test_without_vulkan_is_left_to_torch(
        self, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent")
        choice.best_backend.cache_clear()
        try:
            assert open_backend("auto", folder, shaders=WGSL).name == "torch"
        finally:
            choice.best_backend.cache_clear()

    def test_takes_wgpu_where_it_has_a_gpu_and_torch_if_that_fails(
        self,
        folder: ModelFolder,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(choice, "best_backend", lambda: "wgpu")  # as with a GPU
        with closing(open_backend("auto", folder, shaders=WGSL)) as backend:
            assert backend.name == "wgpu"
        monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent")
        assert open_backend("auto", folder, shaders=WGSL).name == "torch"
        assert "does not run on wgpu" in caplog.text

    def test_takes_a_software_adapter_for_no_gpu(self) -> None:
        assert not choice.has_gpu(b"[]")
        assert not choice.has_gpu(b'[{"device": "llvmpipe (LLVM 15)", "kind": "CPU"}]')
        assert choice.has_gpu(
            b'[{"device": "llvmpipe", "kind": "CPU"}, {"device": "RX", "kind": "DiscreteGPU"}]'
        )

    def test_of_a_broken_folder_says_what_is_broken(self, tmp_path: Path) -> None:
        path = write_random_model(tmp_path / "broken")
        next((path / "transformer").glob("*.safetensors")).write_bytes(b"cut off")
        with pytest.raises(ModelFolderError, match="transformer"):
            open_backend("wgpu", read_model_folder(path), shaders=WGSL)

    @pytest.mark.parametrize(
        ("name", "precision", "message"),
        [("wgpu", "bf16", "f32 and f16"), ("torch", "f16", "f32 and bf16")],
    )
    def test_in_a_precision_that_there_is_not(
        self, folder: ModelFolder, name: str, precision: Any, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            open_backend(name, folder, precision, shaders=WGSL)
