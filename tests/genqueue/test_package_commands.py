"""`manage.py pack_model` and `manage.py fetch_model`."""

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from diffusion.packaging import hub as hubs
from diffusion.packaging.package import Package
from diffusion.plan.schema import read_plan
from genqueue import packages
from tests.diffusion.packaging.fake_hub import FakeHub


@pytest.fixture(autouse=True)
def site(settings, tmp_path, models, monkeypatch) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    monkeypatch.setattr(hubs, "_FIRST_PAUSE_SECONDS", 0.001)
    return settings.DATA_DIR


def call(*given, **options) -> str:
    said = io.StringIO()
    call_command(*given, **options, stdout=said)
    return said.getvalue()


class TestPackModel:
    def test_packs_for_this_site_by_default(self, capsys):
        said = call("pack_model", "tiny", dtype="int8")
        package = Package(packages.place("tiny", "int8"))
        assert said.splitlines()[0] == str(package.path)
        assert package.package_id in said
        assert package.manifest.model_id in said
        assert f"{package.manifest.nbytes:,} bytes" in said
        assert "packing as int8: 100%" in capsys.readouterr().err

    def test_each_part_may_have_its_own_type(self, models, tmp_path):
        call(
            "pack_model", str(models / "tiny"), "--dtype", "f16", "--text-encoder-dtype", "int4",
            "--out", str(tmp_path / "out"),
        )  # fmt: skip
        assert Package(tmp_path / "out").manifest.variant == "int4-f16-f16"

    def test_takes_the_plan_along(self, tmp_path):
        call("pack_model", "tiny", "--out", str(tmp_path / "out"))
        package = Package(tmp_path / "out")
        assert package.manifest.plan is not None
        assert read_plan(package.file(package.manifest.plan)).stages

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["nothing"], "There is no model 'nothing'"),
            (["tiny", "--out", "{tmp}"], "is no package"),
        ],
    )
    def test_says_in_a_line_what_is_wrong(self, tmp_path, options, said):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(CommandError, match=said):
            call("pack_model", *(option.format(tmp=tmp_path) for option in options))

    def test_names_the_weight_that_cannot_be_packed(self, models):
        file = next((models / "tiny" / "vae").glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(CommandError, match=f"vae/{file.name}"):
            call("pack_model", "tiny")


class TestFetchModel:
    @pytest.fixture
    def hub(self, tiny_model):
        with FakeHub("Photoroom/prx-tiny", tiny_model) as server:
            yield server

    @pytest.fixture
    def root(self, tmp_path, settings) -> Path:
        settings.MODEL_ROOTS = [tmp_path / "fetched"]
        return tmp_path / "fetched"

    def fetch(self, hub, root, *more) -> str:
        given = ("fetch_model", hub.repo, "--endpoint", hub.endpoint, "--into", str(root))
        return call(*given, *more)

    def test_says_how_large_it_is_fetches_and_packs(self, hub, root, capsys):
        hub.cut_after = [1000]
        first, folder, package, *_ = self.fetch(hub, root, "--pack", "int8").splitlines()
        size = f"{hubs.look(hub.repo, endpoint=hub.endpoint).nbytes / 1e6:.1f} MB"
        assert first.startswith(f"Photoroom/prx-tiny at {hub.commit}: ")
        assert f"{size}; {size} to fetch" in first
        assert f"free in {root}" in first
        assert folder == str(root / "prx-tiny")
        assert package == str(packages.place("prx-tiny", "int8"))
        assert "prx-tiny: 100%" in capsys.readouterr().err

    def test_a_dry_run_only_says(self, hub, root):
        assert "to fetch" in self.fetch(hub, root, "--dry-run")
        assert not (root / "prx-tiny").exists()

    def test_goes_on_when_called_again(self, hub, root):
        hub.refused = 10**6
        with pytest.raises(CommandError, match="403"):
            self.fetch(hub, root)
        hub.refused = 0
        said = self.fetch(hub, root)
        assert "0.0 B to fetch" not in said
        assert "0.0 B to fetch" in self.fetch(hub, root)

    def test_a_revision_that_is_not_there_is_said(self, hub, root):
        with pytest.raises(CommandError, match="404"):
            self.fetch(hub, root, "--revision", "nowhere")
